package evalue

import (
	"fmt"
	"math"
)

// Band is a confidence sequence for a whole distribution function: with
// probability at least 1-alpha the empirical one is nowhere and never further
// from the true one than [Band.Radius], from its first number of values on.
// Values must be independent draws of one distribution. At the fixed edges of
// a histogram it is exact. Make it with [NewBand]; it never changes.
//
//	radius(n) = 0.85 sqrt((ln(1 + ln(n/first)) + C) / n)
//
// C solves alpha = inf over eta of 4 exp(-gamma^2 C) (1 + 1/((gamma^2-1) ln eta)),
// gamma^2 = (2/eta) (0.85 - sqrt(2 (eta-1)/C))^2 (Howard & Ramdas, Bernoulli
// 28, 2022, theorem 2; package confseq, empirical_process_lil_bound).
type Band struct {
	first int64
	c     float64
}

// bandConstant is the leading constant, which must exceed 1/sqrt(2).
const bandConstant = 0.85

// NewBand returns the band at level alpha in (0,1), from a first number of
// values on, at least 1. It panics with "BUG:" on others. It takes some
// milliseconds.
func NewBand(alpha float64, first int64) *Band {
	if !(alpha > 0 && alpha < 1) || first < 1 {
		panic(fmt.Sprintf("BUG: a band with alpha %v from %d values on", alpha, first))
	}
	lo, hi := 1.0, 1000.0
	for range 80 {
		c := (lo + hi) / 2
		if bandError(c) > alpha {
			lo = c
		} else {
			hi = c
		}
	}
	return &Band{first: first, c: hi}
}

// bandError bounds the probability that a band with constant c is left.
func bandError(c float64) float64 {
	logBound := func(eta float64) float64 {
		gap := bandConstant - math.Sqrt(2*(eta-1)/c)
		gamma2 := 2 / eta * gap * gap
		if gap <= 0 || gamma2 <= 1 {
			return math.Inf(1)
		}
		return math.Log(4) - gamma2*c + math.Log1p(1/((gamma2-1)*math.Log(eta)))
	}
	// One valley: it is steep near 1, so the search is in the log of eta-1.
	lo, hi := math.Log(1e-9), math.Log(2*bandConstant*bandConstant-1)
	best := math.Inf(1)
	const steps = 200
	for range 3 {
		at := lo
		for k := range steps + 1 {
			x := lo + (hi-lo)*float64(k)/steps
			if b := logBound(1 + math.Exp(x)); b < best {
				best, at = b, x
			}
		}
		width := (hi - lo) / steps
		lo, hi = at-width, at+width
	}
	return math.Exp(best)
}

// Radius returns how far the empirical distribution function of n values can
// be from the true one: +Inf below the band's first number of values.
func (b *Band) Radius(n int64) float64 {
	if n < b.first {
		return math.Inf(1)
	}
	t := float64(n)
	return bandConstant * math.Sqrt((math.Log1p(math.Log(t/float64(b.first)))+b.c)/t)
}

// Apart compares the distributions of two arms, of histograms with the same
// fixed edges. It returns the end of the bucket at which their distribution
// functions are furthest apart, how far, and whether that is more than both
// radii together: then the distributions differ, with probability of an error
// of at most twice the band's alpha over all times. (So give [NewBand] half of
// it.) A positive distance says that the canary's values are higher. Apart
// panics with "BUG:" if the histograms differ in length. About 10,000 values
// per arm show a distance of 0.05; a chosen [Quantile] needs far fewer.
func (b *Band) Apart(baseline, canary []int64) (bucket int, distance float64, differ bool) {
	if len(baseline) != len(canary) {
		panic(fmt.Sprintf("BUG: %d and %d buckets", len(baseline), len(canary)))
	}
	var n, total [2]float64
	for i := range baseline {
		total[0] += float64(baseline[i])
		total[1] += float64(canary[i])
	}
	if total[0] == 0 || total[1] == 0 {
		return 0, 0, false
	}
	for i := range baseline {
		n[0] += float64(baseline[i])
		n[1] += float64(canary[i])
		if d := n[0]/total[0] - n[1]/total[1]; math.Abs(d) > math.Abs(distance) {
			bucket, distance = i, d
		}
	}
	return bucket, distance, math.Abs(distance) > b.Radius(int64(total[0]))+b.Radius(int64(total[1]))
}
