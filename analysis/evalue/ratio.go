package evalue

import (
	"fmt"
	"math"
)

// planRatios are the two-sided alternatives of [Ratio]: how often a session of
// the canary arrives, to one of the baseline, relative to the plan.
var planRatios = [...]float64{0.5, 0.67, 0.8, 0.9, 0.95, 1.05, 1.1, 1.25, 1.5, 2}

// planWeights are the weights of the alternatives. Small losses of the canary
// weigh most: they are likeliest, and take longest to be found.
var planWeights = [len(planRatios)]float64{0.04, 0.05, 0.1, 0.2, 0.35, 0.1, 0.06, 0.04, 0.03, 0.03}

// Ratio is the state of a sequential test of sample ratio mismatch: whether
// sessions fall to the canary with the planned share. It is plain data and may
// be kept as gob or JSON; the zero value is a test without sessions.
//
// The null is that each session is the canary's with just the planned share,
// given all before it. Its e-process is the mixture, over ratios R from 0.5 to
// 2 on both sides of 1 (0.35 of the weight on 0.95), of the product of
// R^c / (1-w+wR), where c is 1 for a canary session and w is the planned share.
// It is valid at any time, also while the plan changes from session to session.
// Lindon & Malek (Anytime-valid inference for multinomial count data, 2022) use
// a Dirichlet prior in place of the ten ratios ([Allocation]); a discrete one
// lets w change.
//
// The test must be of independent sessions; many sessions of one user are not,
// if arms are given to users.
type Ratio struct {
	Canary   int64                    // sessions
	Baseline int64                    // sessions
	LogL     [len(planRatios)]float64 // log likelihood ratios against the plan
}

// NewRatio returns a test without sessions.
func NewRatio() Ratio { return Ratio{} }

// Add folds one session into the test. planned is the canary's planned share
// when the session was given its arm, in [0,1]; at 0 or 1 nothing could go
// another way as planned, and the session is counted but carries no evidence.
// Add panics with "BUG:" if planned is outside of [0,1].
func (t *Ratio) Add(canary bool, planned float64) {
	if !(planned >= 0 && planned <= 1) {
		panic(fmt.Sprintf("BUG: planned share of the canary %v", planned))
	}
	if canary {
		t.Canary++
	} else {
		t.Baseline++
	}
	if planned == 0 || planned == 1 {
		return
	}
	for i, r := range planRatios {
		t.LogL[i] -= math.Log1p(planned * (r - 1))
		if canary {
			t.LogL[i] += math.Log(r)
		}
	}
}

// LogE returns the log of the e-process: 0 without sessions, and high if the
// sample ratio is not as planned.
func (t *Ratio) LogE() float64 {
	return Mean(t.LogL[:], planWeights[:])
}
