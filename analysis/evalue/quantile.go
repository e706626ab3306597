package evalue

import (
	"fmt"
	"math"
)

// Direction is what a one-sided question asks for.
type Direction int

// The two directions. The zero value is no direction.
const (
	Higher Direction = iota + 1 // the canary's value is above the baseline's
	Lower                       // it is below
)

// Quantile tests one quantile of two arms from histograms with the same fixed
// edges. It has no state of its own: counts are the state. Make it with
// [NewQuantile]; it never changes.
//
// Values of an arm must be independent draws of one distribution, or, weaker,
// each be at most the quantile with probability p given the past. Counts at
// edges must be exact, which fixed edges give and t-digests do not. Histograms
// are dense slices: element i counts the values in bucket i, and buckets rise.
// The quantile is known to a bucket only; all statements are about the bucket
// that holds it, and exact for that.
//
// The number k of values at most the quantile is binomial, and lies between
// the counts below its bucket and up to its end. The least value of the
// [BetaMixture] for k in between is thus below an e-process (Howard & Ramdas,
// Sequential estimation of quantiles, Bernoulli 28, 2022, on the two-sample
// test that package confseq has as quantile_ab_p_value). For two arms the
// evidences add, and the least over all pairs of buckets that the null allows
// is below the pair that is true.
type Quantile struct {
	p       float64
	mixture *BetaMixture
}

// NewQuantile returns the test of the p-quantile, p in (0,1), tightest at some
// number of values per arm, at least 1. It panics with "BUG:" on others.
func NewQuantile(p float64, values int64) *Quantile {
	return &Quantile{p: p, mixture: NewBetaMixture(p, values)}
}

// buckets returns, for each bucket, the evidence that the quantile is not in
// it.
func (q *Quantile) buckets(counts []int64) []float64 {
	var n int64
	for i, c := range counts {
		if c < 0 {
			panic(fmt.Sprintf("BUG: bucket %d counts %d", i, c))
		}
		n += c
	}
	// The evidence is convex in k, so its least within a bucket is at that k
	// of the bucket which is nearest to where it is least of all.
	lowest := q.mixture.lowest(n)
	g := make([]float64, len(counts))
	var below int64
	for i, c := range counts {
		if i > 0 && c == 0 && counts[i-1] == 0 {
			g[i] = g[i-1]
			continue
		}
		g[i] = q.mixture.LogE(min(max(lowest, below), below+c), n)
		below += c
	}
	return g
}

// Evidence returns the log of the evidence that the canary's quantile lies
// more than shift buckets higher (or lower) than the baseline's. The null is
// that it lies at most so far; it is valid at any time, being at every time at
// most an e-process under the null. With the edges 2^(k/16), 4.4 % apart, a
// shift of 2 buckets is a margin of 9 %, known to within one bucket. shift must
// not be negative and the histograms of equal length, direction one of the two:
// Evidence panics with "BUG:" if not. It takes about 100 ns for each bucket
// that is not empty.
func (q *Quantile) Evidence(baseline, canary []int64, direction Direction, shift int) (logE float64) {
	if len(baseline) != len(canary) || shift < 0 || direction != Higher && direction != Lower {
		panic(fmt.Sprintf("BUG: %d and %d buckets, shift %d, direction %d", len(baseline), len(canary), shift, direction))
	}
	b, c := q.buckets(baseline), q.buckets(canary)
	n := len(b)
	// Under the null the canary's bucket is at most that of the baseline plus
	// shift. For the other direction the order of buckets is turned around.
	at := func(g []float64, i int) float64 {
		if direction == Lower {
			i = n - 1 - i
		}
		return g[i]
	}
	evidence, low, next := math.Inf(1), math.Inf(1), 0
	for i := range n {
		for ; next < n && next <= i+shift; next++ {
			low = min(low, at(c, next))
		}
		evidence = min(evidence, at(b, i)+low)
	}
	if math.IsInf(evidence, 1) {
		return 0 // no buckets: no evidence
	}
	return evidence
}

// Differ returns the log of the evidence that the quantiles of the two arms
// lie in different buckets, whichever is higher. It is valid at any time. It
// panics with "BUG:" if the histograms differ in length.
func (q *Quantile) Differ(baseline, canary []int64) (logE float64) {
	if len(baseline) != len(canary) {
		panic(fmt.Sprintf("BUG: %d and %d buckets", len(baseline), len(canary)))
	}
	b, c := q.buckets(baseline), q.buckets(canary)
	if len(b) == 0 {
		return 0
	}
	logE = math.Inf(1)
	for i := range b {
		logE = min(logE, b[i]+c[i])
	}
	return logE
}

// Interval returns a confidence sequence for the bucket that holds the
// quantile of one arm: with probability at least 1-alpha lo <= bucket <= hi at
// all times at once. Without values it is all buckets. It panics with "BUG:"
// if alpha is not in (0,1) or there are no buckets.
func (q *Quantile) Interval(counts []int64, alpha float64) (lo, hi int) {
	if !(alpha > 0 && alpha < 1) || len(counts) == 0 {
		panic(fmt.Sprintf("BUG: alpha %v, %d buckets", alpha, len(counts)))
	}
	g := q.buckets(counts)
	lo, hi = 0, len(g)-1
	for lo < hi && g[lo] >= -math.Log(alpha) {
		lo++
	}
	for hi > lo && g[hi] >= -math.Log(alpha) {
		hi--
	}
	return lo, hi
}

// Shift returns a confidence sequence for how many buckets the canary's
// quantile lies above the baseline's: with probability at least 1-alpha
// lo <= shift <= hi at all times at once. Each quantile is somewhere in its
// bucket: with the edges 2^(k/16) the ratio of the quantiles themselves is
// between 2^((lo-1)/16) and 2^((hi+1)/16). It panics with "BUG:" if alpha is
// not in (0,1) or the histograms are empty or differ in length. It takes time
// in the product of the numbers of buckets that come into question.
func (q *Quantile) Shift(baseline, canary []int64, alpha float64) (lo, hi int) {
	if !(alpha > 0 && alpha < 1) || len(baseline) != len(canary) || len(baseline) == 0 {
		panic(fmt.Sprintf("BUG: alpha %v, %d and %d buckets", alpha, len(baseline), len(canary)))
	}
	b, c := q.buckets(baseline), q.buckets(canary)
	least := math.Inf(1)
	for _, e := range c {
		least = min(least, e)
	}
	lo, hi = len(c), -len(b)
	for i, e := range b {
		if e+least >= -math.Log(alpha) {
			continue
		}
		for j, f := range c {
			if e+f < -math.Log(alpha) {
				lo, hi = min(lo, j-i), max(hi, j-i)
			}
		}
	}
	if lo > hi {
		// A true pair is left out with probability at most alpha; that none
		// is left says so.
		return 0, 0
	}
	return lo, hi
}
