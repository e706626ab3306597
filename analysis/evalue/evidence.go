package evalue

import (
	"fmt"
	"math"
	"sort"
)

// weighted is one alternative of a mixture: a node and the log of its weight.
type weighted struct {
	node      int // index in nodes; -1 is ratio 1
	logWeight float64
}

// The alternatives and weights of the tests. TestTuning has the exact
// expected number of marks to a verdict, in units of Wald's bound, beside
// what equal weights need.
var (
	harmMixture   = mixtureOf(map[float64]float64{1.2: 0.04, 1.5: 0.22, 2: 0.13, 3: 0.32, 4.5: 0.2, 12: 0.09})
	oneMixture    = mixtureOf(map[float64]float64{1.5: 0.04, 2: 0.08, 3: 0.12, 4.5: 0.2, 12: 0.2, 40: 0.36})
	safetyMixture = mixtureOf(map[float64]float64{1: 0.6, 1 / 1.25: 0.25, 1 / 1.8: 0.15})
)

func mixtureOf(weights map[float64]float64) (out []weighted) {
	if w, ok := weights[1]; ok {
		out = append(out, weighted{node: -1, logWeight: math.Log(w)})
	}
	for i, r := range nodes {
		if w, ok := weights[r]; ok {
			out = append(out, weighted{node: i, logWeight: math.Log(w)})
		}
	}
	if len(out) != len(weights) {
		panic("BUG: an alternative is not a node")
	}
	return out
}

// Harm returns the log of the e-process against the null that the canary is
// not worse: that its ratio is at most 1 in every batch, where it may be
// another in each. It is the mixture of the likelihood ratios of 1.2, 1.5, 2,
// 3, 4.5 and 12 against 1, with weights 0.04, 0.22, 0.13, 0.32, 0.2 and 0.09.
// It is valid at any time, under the null as [Grid.Add], [Grid.AddCell] and
// [Grid.AddBatch] state it, and 0 without marks.
//
// A mixture over alternatives keeps the expectation of each part (Robbins,
// Ann. Math. Statist. 41, 1970), and the time to detection is near to that of
// the best of them, for the log of its weight in evidence. Small ratios have
// small weights, since they need many marks, to which the price of a weight
// adds little. Harm takes about 60 ns.
func (g *Grid) Harm(m Marks) (logE float64) {
	return mixture(&m, harmMixture)
}

// HarmToOne is [Grid.Harm] with weights for one of many: the mixture of the
// likelihood ratios of 1.5, 2, 3, 4.5, 12 and 40 against 1, with weights 0.04,
// 0.08, 0.12, 0.2, 0.2 and 0.36. Its evidence must outweigh how many there are,
// which takes one that is hurt a little too long, and one for whom everything
// fails little more where large ratios have the weight.
func (g *Grid) HarmToOne(m Marks) (logE float64) {
	return mixture(&m, oneMixture)
}

// Safety returns the log of the e-process against the null that the canary is
// worse by the margin or more: that its ratio is at least 1+margin in every
// batch. It is the mixture of the likelihood ratios of 1, 1/1.25 and 1/1.8
// against 1+margin, with weights 0.6, 0.25 and 0.15; each falls with the
// canary's failures, so the null's hardest case is its edge. It is valid at
// any time, and 0 without marks. The likelihood at a margin that is no node is
// interpolated, and the bound of its error is taken off the evidence. margin
// must be in (0, 11]: Safety panics with "BUG:" if not.
func (g *Grid) Safety(m Marks, margin float64) (logE float64) {
	if !(margin > 0 && margin <= nodes[spanned-1]-1) {
		panic(fmt.Sprintf("BUG: margin %v", margin))
	}
	return mixture(&m, safetyMixture) - g.atMost(&m, 1+margin)
}

// atMost returns a number that the log likelihood at a ratio from 1/4 to 12 is not
// above: itself at a node, else what is interpolated and the bound of its error.
func (g *Grid) atMost(m *Marks, ratio float64) float64 {
	for i, r := range nodes {
		if r == ratio {
			return m.LogL[i]
		}
	}
	c := g.coefficients(math.Log(ratio))
	return m.at(&c) + m.slack()
}

// mixture returns the log of the weighted mean likelihood.
func mixture(m *Marks, parts []weighted) float64 {
	var terms [8]float64
	top := math.Inf(-1)
	for k, p := range parts {
		terms[k] = p.logWeight
		if p.node >= 0 {
			terms[k] += m.LogL[p.node]
		}
		top = max(top, terms[k])
	}
	sum := 0.0
	for _, t := range terms[:len(parts)] {
		sum += math.Exp(t - top)
	}
	return top + math.Log(sum)
}

// Interval returns a confidence sequence for the ratio: with probability at
// least 1-alpha it holds the true ratio at all times at once, so it may be
// looked at whenever one likes. It supposes that the ratio is the same in
// every batch; where it is not, read it as the range of constant ratios that
// the marks do not contradict.
//
// It is the set of ratios whose likelihood is at least alpha times that of a
// mixture over ratios from 1/4 to 12 (Robbins, 1970; Howard et al., Ann.
// Statist. 49, 2021, section 3): the mixture over the likelihood at the true
// ratio is a martingale from 1. The likelihood is log-concave in the ratio's
// log, so the set is an interval. Between the nodes likelihoods are
// interpolated, with the bound of the error to the safe side. An end beyond
// 1/4 or 12 is 0 or +Inf. The mixture has steps of 3 %, so an interval does
// not become much narrower than that. Without marks it is (0, +Inf). It takes
// some microseconds. Interval panics with "BUG:" if alpha is not in (0,1).
func (g *Grid) Interval(m Marks, alpha float64) (lo, hi float64) {
	if !(alpha > 0 && alpha < 1) {
		panic(fmt.Sprintf("BUG: alpha %v", alpha))
	}
	var l [fine]float64
	best, top := g.likeliest(&m, &l)
	sum := 0.0
	for k := range l {
		sum += math.Exp(l[k] + g.fineWeight[k] - top)
	}
	floor := top + math.Log(sum) + math.Log(alpha) - 2*m.slack()
	lo, hi = 0, math.Inf(1)
	for k := best - 1; k >= 0; k-- {
		if l[k] < floor {
			lo = math.Exp(g.cross(&m, g.fineLogs[k], g.fineLogs[k+1], floor))
			break
		}
	}
	for k := best + 1; k < fine; k++ {
		if l[k] < floor {
			hi = math.Exp(g.cross(&m, g.fineLogs[k], g.fineLogs[k-1], floor))
			break
		}
	}
	return lo, hi
}

// likeliest fills in the log likelihoods at the fine ratios and returns where
// the largest is, and it.
func (g *Grid) likeliest(m *Marks, l *[fine]float64) (best int, top float64) {
	for k := range l {
		l[k] = m.at(&g.fineCoefs[k])
		if l[k] > l[best] {
			best = k
		}
	}
	return best, l[best]
}

// cross returns the log ratio between out and in where the log likelihood
// passes floor, on the side of out.
func (g *Grid) cross(m *Marks, out, in, floor float64) float64 {
	for range 30 {
		mid := (out + in) / 2
		if c := g.coefficients(mid); m.at(&c) < floor {
			out = mid
		} else {
			in = mid
		}
	}
	return out
}

// The ends of what [Grid.Estimate] returns.
const (
	MinEstimate = 0.25
	MaxEstimate = 12
)

// Estimate returns the ratio in [MinEstimate, MaxEstimate] at which the marks are
// likeliest, within 1e-4. At an end read it as "that or beyond". It is NaN if the marks
// carry no information.
func (g *Grid) Estimate(m Marks) float64 {
	if m.LogL == [points]float64{} {
		return math.NaN()
	}
	// The likelihood has one peak, so that a search finds where it begins to
	// fall.
	best := sort.Search(fine-1, func(k int) bool { return m.at(&g.fineCoefs[k+1]) <= m.at(&g.fineCoefs[k]) })
	if best == 0 || best == fine-1 {
		return math.Exp(g.fineLogs[best])
	}
	// The golden section closes in on it, at one new point a step (Kiefer, 1953).
	const golden = 0.6180339887498949
	lo, hi := g.fineLogs[best-1], g.fineLogs[best+1]
	likelihood := func(t float64) float64 {
		c := g.coefficients(t)
		return m.at(&c)
	}
	a, b := hi-golden*(hi-lo), lo+golden*(hi-lo)
	la, lb := likelihood(a), likelihood(b)
	for hi-lo > 1e-5 {
		if la < lb {
			lo, a, la = a, b, lb
			b = lo + golden*(hi-lo)
			lb = likelihood(b)
		} else {
			hi, b, lb = b, a, la
			a = hi - golden*(hi-lo)
			la = likelihood(a)
		}
	}
	return math.Exp((lo + hi) / 2)
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
