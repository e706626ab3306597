package evalue

import (
	"fmt"
	"math"
	"slices"
)

// Concentration is a prior of [Allocation] for shares that are off by about a
// point. Of 1,000, 3,000 and 10,000 (the default of package ssrm) it found a
// loss of 5 % of one of two equal arms soonest.
const Concentration = 3000

// Allocation is the state of a sequential test of sample ratio mismatch for
// any number of arms: whether clients, counted at their first beacon, fall to
// the arms as planned. It is plain data and may be kept as gob or JSON; make it
// with [NewAllocation].
//
// The null is that each client falls to arm i with just the planned
// probability, given all before it. Its e-process is the Dirichlet mixture of
// multinomial likelihoods over that of the plan (Lindon & Malek, Anytime-valid
// inference for multinomial count data, NeurIPS 2022, section 2; package ssrm),
// with K the concentration, q the plan, n the counts:
//
//	Gamma(K)/Gamma(K+n) * product over i of Gamma(K q_i + n_i)/Gamma(K q_i) / q_i^n_i
//
// It is valid at any time, for independent clients: many sessions of one user
// are not, if arms are given to users. Where the plan changes, evidence from
// before is kept and multiplied ([Allocation.Replan]). [Ratio] is for two arms
// whose plan changes from client to client.
type Allocation struct {
	Plan   []float64 // probability of each arm, summing to 1
	Prior  float64   // concentration of the Dirichlet prior around the plan
	Counts []int64   // clients, by arm, since the plan is what it is
	Past   float64   // log of the e-process of earlier plans
}

// NewAllocation returns a test without clients. Each probability must be
// positive and their sum 1 to within 1e-9, of two arms or more; the prior's
// concentration must be positive. NewAllocation panics with "BUG:" if not.
func NewAllocation(plan []float64, prior float64) *Allocation {
	checkPlanned(plan)
	if !(prior > 0) || math.IsInf(prior, 1) {
		panic(fmt.Sprintf("BUG: concentration %v", prior))
	}
	return &Allocation{Plan: slices.Clone(plan), Prior: prior, Counts: make([]int64, len(plan))}
}

func checkPlanned(plan []float64) {
	sum := 0.0
	for _, q := range plan {
		if !(q > 0) {
			panic(fmt.Sprintf("BUG: planned probability %v", q))
		}
		sum += q
	}
	if len(plan) < 2 || math.Abs(sum-1) > 1e-9 {
		panic(fmt.Sprintf("BUG: %d planned probabilities that sum to %v", len(plan), sum))
	}
}

// Add counts clients of an arm. It panics with "BUG:" if there is no such arm
// or the count is negative.
func (t *Allocation) Add(arm int, clients int64) {
	if clients < 0 {
		panic(fmt.Sprintf("BUG: %d clients", clients))
	}
	t.Counts[arm] += clients
}

// Replan changes the plan for the clients to come, to as many arms.
func (t *Allocation) Replan(plan []float64) {
	checkPlanned(plan)
	if len(plan) != len(t.Plan) {
		panic(fmt.Sprintf("BUG: a plan for %d arms, not %d", len(plan), len(t.Plan)))
	}
	t.Past = t.LogE()
	t.Plan = slices.Clone(plan)
	clear(t.Counts)
}

// LogE returns the log of the e-process: 0 without clients, and high if they
// do not fall as planned. Its error is about 1e-15 n ln n.
func (t *Allocation) LogE() float64 {
	l, n := 0.0, int64(0)
	for i, q := range t.Plan {
		l += logRising(t.Prior*q, t.Counts[i]) - float64(t.Counts[i])*math.Log(q)
		n += t.Counts[i]
	}
	return t.Past + l - logRising(t.Prior, n)
}

// Share returns a confidence sequence for the probability with which clients
// fall to an arm, under the present plan: with probability at least 1-alpha it
// holds the true one at all times at once, if that does not change. It says how
// much is missing. It panics with "BUG:" if alpha is not in (0,1).
func (t *Allocation) Share(arm int, alpha float64) (lo, hi float64) {
	if !(alpha > 0 && alpha < 1) {
		panic(fmt.Sprintf("BUG: alpha %v", alpha))
	}
	var n int64
	for _, c := range t.Counts {
		n += c
	}
	if n == 0 {
		return 0, 1
	}
	k, a, b := t.Counts[arm], t.Prior*t.Plan[arm], t.Prior*(1-t.Plan[arm])
	top := logRising(a, k) + logRising(b, n-k) - logRising(a+b, n) + math.Log(alpha)
	// The log likelihood is concave in the share, highest at the estimate.
	likely := func(p float64) bool {
		l := 0.0
		if k > 0 {
			l += float64(k) * math.Log(p)
		}
		if n > k {
			l += float64(n-k) * math.Log1p(-p)
		}
		return l > top
	}
	edge := func(out float64) float64 {
		in := float64(k) / float64(n)
		if likely(out) {
			return out
		}
		for range 60 {
			if p := (out + in) / 2; likely(p) {
				in = p
			} else {
				out = p
			}
		}
		return out
	}
	return edge(0), edge(1)
}

// logRising returns ln Gamma(a+n)/Gamma(a).
func logRising(a float64, n int64) float64 {
	if n < 16 {
		l := 0.0
		for i := range n {
			l += math.Log(a + float64(i))
		}
		return l
	}
	up, _ := math.Lgamma(a + float64(n))
	down, _ := math.Lgamma(a)
	return up - down
}
