package judge

import (
	"math"
	"slices"
)

// RankSum is the Mann-Whitney comparison of two samples. Make it with
// [NewRankSum]; it never changes.
//
// The null at a shift d is that the canary's values less d and the baseline's
// are independent draws of one distribution. The test is of fixed size: one
// look. Its statistic is the number of pairs in which the canary's value less d
// is larger, ties counting half, standardised with corrections for ties and
// continuity (Lehmann, Nonparametrics, 1975, section 1.4; as in R's wilcox.test
// with exact = FALSE). It is normal approximately, from some 10 values per
// sample on.
type RankSum struct {
	canary, baseline []float64 // sorted
	inner            float64   // sum of t^3-t over groups of ties within a sample
	rounding         float64   // differences this near to one another are one
	broken           bool      // both samples are constant: their ties count as broken
}

// NewRankSum returns the comparison of two samples, which are copied. Each must
// have a value, and none may be NaN or infinite. Where each sample has one
// value only, and not the same, ties within them are taken as broken at random,
// since the corrected test would know no variance (Kayenta adds noise of 1e-5 of
// the value).
func NewRankSum(canary, baseline []float64) *RankSum {
	r := &RankSum{canary: slices.Sorted(slices.Values(canary)), baseline: slices.Sorted(slices.Values(baseline))}
	// A difference is off by some roundings of the larger value, and by others in
	// another unit: what ties must not depend on it.
	r.rounding = 0x1p-49 * max(math.Abs(r.canary[0]), math.Abs(r.canary[len(canary)-1]), math.Abs(r.baseline[0]), math.Abs(r.baseline[len(baseline)-1]))
	constant := func(v []float64) bool { return v[0] == v[len(v)-1] }
	if r.broken = constant(r.canary) && constant(r.baseline); !r.broken {
		r.inner = ties(r.canary) + ties(r.baseline)
	}
	return r
}

// ties returns the sum of t^3-t over the groups of equal values.
func ties(sorted []float64) (sum float64) {
	for i := 0; i < len(sorted); {
		j := i
		for j < len(sorted) && sorted[j] == sorted[i] {
			j++
		}
		t := float64(j - i)
		sum += t*t*t - t
		i = j
	}
	return sum
}

// pairs counts the pairs whose difference, canary less baseline, is above high,
// and those where it is in [low, high].
func (r *RankSum) pairs(low, high float64) (above, equal int) {
	// A difference rises with the canary's value and falls with the
	// baseline's, also as rounded.
	over, from := 0, 0 // baseline values with a difference above high, and from low on
	for _, c := range r.canary {
		for over < len(r.baseline) && c-r.baseline[over] > high {
			over++
		}
		for from < len(r.baseline) && c-r.baseline[from] >= low {
			from++
		}
		above += over
		equal += from - over
	}
	return above, equal
}

// around returns the differences that count as d. Those of 0 are exact.
func (r *RankSum) around(d float64) (low, high float64) {
	if d == 0 {
		return 0, 0
	}
	return d - r.rounding, d + r.rounding
}

// score returns the standardised statistic for a number of pairs, with the
// ties that a shift makes between the samples.
func (r *RankSum) score(u, tied float64) float64 {
	m, n := float64(len(r.canary)), float64(len(r.baseline))
	d := u - m*n/2
	switch {
	case d > 0:
		d -= 0.5
	case d < 0:
		d += 0.5
	}
	variance := m * n / 12 * (m + n + 1 - tied/((m+n)*(m+n-1)))
	if d == 0 || !(variance > 0) {
		return 0
	}
	return d / math.Sqrt(variance)
}

// Score returns the standardised statistic at a shift d: normal under the null
// that the canary's values lie d above the baseline's, high if they lie further
// above. It falls as d rises. It takes time in the number of values.
func (r *RankSum) Score(d float64) float64 {
	above, equal := r.pairs(r.around(d))
	tied := r.inner
	if equal > 0 && !r.broken {
		tied = r.tiedAt(d)
	}
	return r.score(float64(above)+float64(equal)/2, tied)
}

// most returns the largest score that values of these numbers, with the ties
// within the samples, can have: that of samples which do not overlap.
func (r *RankSum) most() float64 {
	return r.score(float64(len(r.canary)*len(r.baseline)), r.inner)
}

// tiedAt returns the sum of t^3-t over the groups of ties of both samples, the
// canary's less d.
func (r *RankSum) tiedAt(d float64) (sum float64) {
	low, high := r.around(d)
	j := 0
	for i := 0; i < len(r.canary); {
		next := i
		for next < len(r.canary) && r.canary[next] == r.canary[i] {
			next++
		}
		t := float64(next - i)
		for j < len(r.baseline) && r.canary[i]-r.baseline[j] > high {
			group := j
			for j < len(r.baseline) && r.baseline[j] == r.baseline[group] {
				j++
			}
			s := float64(j - group)
			sum += s*s*s - s
		}
		for j < len(r.baseline) && r.canary[i]-r.baseline[j] >= low {
			t++
			j++
		}
		sum += t*t*t - t
		i = next
	}
	return sum + ties(r.baseline[j:])
}

// Estimate returns the Hodges-Lehmann shift: the median of all differences,
// canary less baseline (Hodges & Lehmann, 1963).
func (r *RankSum) Estimate() float64 {
	pairs := len(r.canary) * len(r.baseline)
	lo := r.first(func(above int) bool { return pairs-above >= (pairs+1)/2 })
	if pairs%2 == 1 {
		return lo
	}
	hi := r.first(func(above int) bool { return pairs-above >= pairs/2+1 })
	return lo + (hi-lo)/2
}

// Interval returns the shifts that the test at a confidence level in (0,1) does
// not reject: a confidence interval of fixed size. Its ends are differences of
// values, where the statistic jumps past the normal quantile; where it never
// does, the least and the largest difference.
func (r *RankSum) Interval(confidence float64) (lo, hi float64) {
	z := normalQuantile(confidence)
	between := func(above int) float64 { return r.score(float64(above), r.inner) }
	lo = r.first(func(above int) bool { return between(above) <= z })
	hi = r.first(func(above int) bool { return between(above) <= -z })
	return lo, hi
}

// first returns the least difference d for which the number of pairs above it
// passes a test that, once passed, larger ones pass too; the largest difference,
// if none does.
func (r *RankSum) first(passes func(above int) bool) float64 {
	lo, hi := r.canary[0]-r.baseline[len(r.baseline)-1], r.canary[len(r.canary)-1]-r.baseline[0]
	at := func(d float64) bool { above, _ := r.pairs(d, d); return passes(above) }
	if at(lo) || lo == hi {
		return lo
	}
	// lo does not pass; hi is taken to. Halving ends when no float64 lies in
	// between, so hi is the very difference at which the count jumps.
	for {
		mid := lo + (hi-lo)/2
		if mid <= lo || mid >= hi {
			return hi
		}
		if at(mid) {
			hi = mid
		} else {
			lo = mid
		}
	}
}

// CLES returns the common language effect size: the share of pairs in which the
// canary's value is larger, ties counting half (Vargha & Delaney, 2000).
func (r *RankSum) CLES() float64 {
	above, equal := r.pairs(0, 0)
	return (float64(above) + float64(equal)/2) / float64(len(r.canary)) / float64(len(r.baseline))
}

// normalQuantile returns the z with probability confidence within [-z, z].
func normalQuantile(confidence float64) float64 { return math.Sqrt2 * math.Erfinv(confidence) }
