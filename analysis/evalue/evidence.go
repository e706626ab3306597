package evalue

import (
	"fmt"
	"math"
)

// Harm returns the log of the e-process against the null that the canary is
// not worse: that its ratio is at most 1 in every batch, where it may be
// another in each. It is the equal mixture of the likelihood ratios of 1.15,
// 1.3, 1.5, 2, 3, 5 and 10 against 1. It is valid at any time, under the null
// as [Grid.Add] and [Grid.AddBatch] state it, and 0 without marks.
//
// A mixture over alternatives keeps the expectation of each part (Robbins,
// 1970), and the time to detection is near to that of the best of them, for
// ln 7 = 1.9 of evidence.
func (g *Grid) Harm(m Marks) (logE float64) {
	return g.mixture(m, g.harm, 0)
}

// Safety returns the log of the e-process against the null that the canary is
// worse by the margin or more: that its ratio is at least 1+margin in every
// batch. It is the equal mixture of the likelihood ratios of 1, 1/1.15 and
// 1/1.5 against 1+margin; each falls with the canary's failures, so the null's
// hardest case is its edge. It is valid at any time, and 0 without marks.
// margin must be positive and 1+margin on the grid: Safety panics with "BUG:"
// if not.
func (g *Grid) Safety(m Marks, margin float64) (logE float64) {
	if !(margin > 0) {
		panic(fmt.Sprintf("BUG: margin %v", margin))
	}
	null := g.place(1 + margin)
	if len(m.LogL) == 0 {
		return 0
	}
	m.fit(len(g.ratios))
	return g.mixture(m, g.safety, m.LogL[null])
}

// mixture returns the log of the mean likelihood at some places of the grid,
// less that of the null.
func (g *Grid) mixture(m Marks, places []int, null float64) float64 {
	if len(m.LogL) == 0 {
		return 0
	}
	m.fit(len(g.ratios))
	top := math.Inf(-1)
	for _, i := range places {
		top = max(top, m.LogL[i])
	}
	sum := 0.0
	for _, i := range places {
		sum += math.Exp(m.LogL[i] - top)
	}
	return top + math.Log(sum/float64(len(places))) - null
}

// Interval returns a confidence sequence for the ratio: with probability at
// least 1-alpha it holds the true ratio at all times at once, so it may be
// looked at whenever one likes. It supposes that the ratio is the same in
// every batch; where it is not, read it as the range of constant ratios that
// the marks do not contradict.
//
// It is the set of ratios that a mixture over the whole grid with equal
// weights does not reject: those whose likelihood is at least alpha times the
// mean likelihood (Robbins, 1970; Howard et al., 2021). The likelihood is
// log-concave in the ratio's log, so the set is an interval; it is rounded
// outward to ratios of the grid, and beyond the grid to 0 and +Inf. Without
// marks it is (0, +Inf). Interval panics with "BUG:" if alpha is not in (0,1).
func (g *Grid) Interval(m Marks, alpha float64) (lo, hi float64) {
	if !(alpha > 0 && alpha < 1) {
		panic(fmt.Sprintf("BUG: alpha %v", alpha))
	}
	lo, hi = 0, math.Inf(1)
	if len(m.LogL) == 0 {
		return lo, hi
	}
	m.fit(len(g.ratios))
	top := math.Inf(-1)
	for _, l := range m.LogL {
		top = max(top, l)
	}
	sum := 0.0
	for _, l := range m.LogL {
		sum += math.Exp(l - top)
	}
	floor := top + math.Log(sum/float64(len(m.LogL))) + math.Log(alpha)
	for i, l := range m.LogL {
		if l > floor {
			break
		}
		lo = g.ratios[i]
	}
	for i := len(m.LogL) - 1; m.LogL[i] <= floor; i-- {
		hi = g.ratios[i]
	}
	return lo, hi
}

// Estimate returns the ratio of the grid at which the marks are likeliest. At
// an end of the grid read it as "that or beyond". It is NaN if the marks carry
// no information.
func (g *Grid) Estimate(m Marks) float64 {
	best, informed := 0, false
	for i, l := range m.LogL {
		informed = informed || l != 0
		if l > m.LogL[best] {
			best = i
		}
	}
	if !informed {
		return math.NaN()
	}
	m.fit(len(g.ratios))
	return g.ratios[best]
}

// Mean returns the log of the weighted average of e-values, which is an
// e-value (and of e-processes an e-process) whatever their dependence, under
// the null that all their nulls hold (Vovk & Wang, 2021). Weights must be
// fixed before the data, not negative, and sum to at most 1; what is missing
// to 1 counts as weight on the e-value 0. So without e-values it is -Inf.
// Mean panics with "BUG:" on other weights, or if an e-value is NaN.
func Mean(logEs, weights []float64) float64 {
	if len(logEs) != len(weights) {
		panic(fmt.Sprintf("BUG: %d e-values and %d weights", len(logEs), len(weights)))
	}
	top, total := math.Inf(-1), 0.0
	for i, w := range weights {
		if !(w >= 0) || math.IsNaN(logEs[i]) {
			panic(fmt.Sprintf("BUG: weight %v on e-value exp(%v)", w, logEs[i]))
		}
		total += w
		if w > 0 {
			top = max(top, logEs[i])
		}
	}
	// Weights that were scaled to sum to 1 may miss it by some roundings.
	if total > 1+1e-9 {
		panic(fmt.Sprintf("BUG: weights sum to %v", total))
	}
	if math.IsInf(top, 0) {
		return top
	}
	sum := 0.0
	for i, w := range weights {
		if w > 0 {
			sum += w * math.Exp(logEs[i]-top)
		}
	}
	return top + math.Log(sum)
}
