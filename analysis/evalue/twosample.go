package evalue

import (
	"fmt"
	"math"
)

// betaPrior is the parameter of the Beta priors whose posterior means are the
// alternatives of [TwoSample]: the default of package safestats, where it is
// found to be best in regret for blocks of equal size (Turner, Ly & Grünwald,
// 2022).
const betaPrior = 0.18

// TwoSample is the state of a test of two failure probabilities, for
// guardrails that fail often (a third of the page views are slow), where
// [Grid.AddCell] loses power, or for rollouts whose allocation is not
// controlled. It needs no share: it conditions on how many sessions each arm
// has. It is plain data and may be kept as gob or JSON; make it with
// [NewTwoSample]. One stratum has one, and [TwoSample.Harm] and
// [TwoSample.Safety] add over strata that are independent (Turner & Grünwald,
// Safe sequential testing and effect estimation in stratified count data,
// 2023).
//
// The nulls are, for failure probabilities b (baseline) and c (canary) that
// may be others in each block: harm, c <= b; safety, c >= (1+margin)*b. Both
// e-processes are valid at any time if the sessions of a block are independent
// given the past and the sizes of a block do not depend on its outcomes. The
// factor of a block is
//
//	p(block; b*, c*) / p(block; b', c')
//
// where b*, c* are the posterior means from the blocks before, and b', c' the
// point of the null that is nearest to them in Kullback-Leibler divergence. For
// any convex null its expectation is at most 1 (Turner, Ly & Grünwald, Generic
// E-variables for exact sequential k-sample tests that allow for optional
// stopping, 2022, theorem 1): the log of the expectation is concave in (b, c),
// 0 at the nearest point, and there its slope into the null is not positive. At
// margin 0 the point is the mean of b* and c*, weighted by sessions. Where b*,
// c* lie within the null the factor is 1.
//
// The price of learning two probabilities from nothing is about half the log of
// the number of sessions for each.
type TwoSample struct {
	Margin   float64  // of safety: relative, 0.25 is 25 %
	Failures [2]int64 // by arm: baseline, canary
	Sessions [2]int64
	LogHarm  float64 // log of the e-process against "the canary is not worse"
	LogSafe  float64 // log of the e-process against "worse by the margin or more"
}

// NewTwoSample returns a test without sessions. margin must be positive and
// finite: NewTwoSample panics with "BUG:" if not.
func NewTwoSample(margin float64) TwoSample {
	if !(margin > 0) || math.IsInf(margin, 1) {
		panic(fmt.Sprintf("BUG: margin %v", margin))
	}
	return TwoSample{Margin: margin}
}

// Harm returns the log of the e-process against the null that the canary does
// not fail more often than the baseline; 0 without sessions.
func (t *TwoSample) Harm() float64 { return t.LogHarm }

// Safety returns the log of the e-process against the null that the canary's
// failure probability is at least 1+margin times the baseline's.
func (t *TwoSample) Safety() float64 { return t.LogSafe }

// AddBlock folds in one block: how many of how many sessions of each arm
// failed. A session must be counted as it ends or matures, whatever came of
// it, and a block be closed without looking at its outcomes. A block with
// sessions of one arm only carries no evidence and is learned from. AddBlock
// panics with "BUG:" if a count is negative or failures exceed sessions. It
// takes about 200 ns.
func (t *TwoSample) AddBlock(canaryFailures, baselineFailures, canarySessions, baselineSessions int64) {
	x := [2]int64{baselineFailures, canaryFailures}
	n := [2]int64{baselineSessions, canarySessions}
	var star, weight [2]float64
	for a := range x {
		if x[a] < 0 || x[a] > n[a] {
			panic(fmt.Sprintf("BUG: %d of %d canary and %d of %d baseline sessions failed",
				canaryFailures, canarySessions, baselineFailures, baselineSessions))
		}
		star[a] = (float64(t.Failures[a]) + betaPrior) / (float64(t.Sessions[a]) + 2*betaPrior)
		weight[a] = float64(n[a])
	}
	if n[0] > 0 && n[1] > 0 {
		factor := func(ratio float64) float64 {
			b := nearest(star, weight, ratio)
			null := [2]float64{b, ratio * b}
			l := 0.0
			for a := range x {
				l += float64(x[a])*math.Log(star[a]/null[a]) + float64(n[a]-x[a])*math.Log((1-star[a])/(1-null[a]))
			}
			return l
		}
		if star[1] > star[0] {
			t.LogHarm += factor(1)
		}
		if star[1] < (1+t.Margin)*star[0] {
			t.LogSafe += factor(1 + t.Margin)
		}
	}
	for a := range x {
		t.Failures[a] += x[a]
		t.Sessions[a] += n[a]
	}
}

// nearest returns the b that minimizes the sum of the divergences of Bernoulli
// laws, weight[0]*KL(star[0] from b) + weight[1]*KL(star[1] from ratio*b): the
// smaller root of the quadratic that the derivative's numerator is.
func nearest(star, weight [2]float64, ratio float64) float64 {
	a := ratio * (weight[0] + weight[1])
	b := weight[0]*(1+ratio*star[0]) + weight[1]*(ratio+star[1])
	c := weight[0]*star[0] + weight[1]*star[1]
	return 2 * c / (b + math.Sqrt(max(0, b*b-4*a*c)))
}
