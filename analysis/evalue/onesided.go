package evalue

import (
	"fmt"
	"math"
)

// perStratum is how many values of each arm a stratum needs to be a part of an
// average over strata: with fewer its variance is not known.
const perStratum = 10

// Stratified returns what is known about the difference of means, or of ratios of
// means, averaged over strata in proportion to their values, and the average of
// the baseline's. A mix of strata that differs between the arms, or shifts, moves it not. For ratios
// the covariate is the denominator, such as page views of errors per page view;
// both are sums of one unit of randomisation, a user, which is what makes them
// independent (Deng, Knoblich & Lu, Applying the delta method in metric
// analytics, KDD 2018, section 3.1, has the variance). For means the covariate
// is not used.
//
// It refuses as [AdjustedMeans.Difference] does, of all strata together, where the
// skewness is about the means of strata; strata with less than 10 values of an arm, or without a positive
// denominator, are left out. It panics with "BUG:" as that one does.
func Stratified(strata []AdjustedMeans, ratio bool, alpha float64, tuned int64) (d Difference, baseline float64, err error) {
	d, baseline, all, err := stratified(strata, ratio, alpha, tuned)
	if err == nil {
		d.finish(&all, alpha, tuned)
	}
	return d, baseline, err
}

func stratified(strata []AdjustedMeans, ratio bool, alpha float64, tuned int64) (d Difference, baseline float64, all AdjustedMeans, err error) {
	if !(alpha > 0 && alpha < 1) || tuned < 1 {
		panic(fmt.Sprintf("BUG: alpha %v, tuned for %d values", alpha, tuned))
	}
	usable := func(s *AdjustedMeans) bool {
		b, c := &s.Arms[0], &s.Arms[1]
		return b.Values >= perStratum && c.Values >= perStratum && (!ratio || b.Covariate > 0 && c.Covariate > 0)
	}
	for k := range strata {
		if s := &strata[k]; usable(s) {
			for a := range all.Arms {
				all.Arms[a].Values += s.Arms[a].Values
				all.Arms[a].Square += s.Arms[a].Square
				all.Arms[a].Cube += s.Arms[a].Cube
			}
		}
	}
	if err := all.ready(); err != nil {
		return d, 0, all, err
	}
	n := float64(all.Arms[0].Values + all.Arms[1].Values)
	variance := 0.0
	for k := range strata {
		s := &strata[k]
		if !usable(s) {
			continue
		}
		share := float64(s.Arms[0].Values+s.Arms[1].Values) / n
		for a, m := range s.Arms {
			value, v := m.Mean, m.Square
			if ratio {
				r := m.Mean / m.Covariate
				value, v = r, max(0, m.Square-2*r*m.CovProduct+r*r*m.CovSquare)/(m.Covariate*m.Covariate)
			}
			variance += share * share * v / float64(m.Values-1) / float64(m.Values)
			if a == 0 {
				baseline += share * value
				value = -value
			}
			d.Estimate += share * value
		}
	}
	d.Error = math.Sqrt(variance)
	return d, baseline, all, nil
}

// StratifiedEvidence returns the log of the asymptotic e-process of a one-sided
// question on what [Stratified] is about: that the canary's is more than margin above
// the baseline's ([Higher]), or less than margin above it ([Lower]). The null
// is the contrary, its end included; margin is in the unit of the values and
// may be negative. It is tightest at tuned values of both arms together. It
// panics with "BUG:" if margin is NaN, tuned below 1 or direction none of the two.
//
// It is the one-sided normal mixture (Howard, Ramdas, McAuliffe & Sekhon,
// Time-uniform, nonparametric, nonasymptotic confidence sequences, Ann.
// Statist. 49, 2021, proposition 6) of the Gaussian process that the studentised
// sum comes to resemble (see [AdjustedMeans]).
func StratifiedEvidence(strata []AdjustedMeans, ratio bool, direction Direction, margin float64, tuned int64) (logE float64, err error) {
	if math.IsNaN(margin) || direction != Higher && direction != Lower {
		panic(fmt.Sprintf("BUG: margin %v, direction %d", margin, direction))
	}
	d, _, all, err := stratified(strata, ratio, tunedLevel, tuned)
	if err != nil {
		return 0, err
	}
	off := d.Estimate - margin
	if direction == Lower {
		off = -off
	}
	n := float64(all.Arms[0].Values + all.Arms[1].Values)
	if !(d.Error > 0) {
		return math.Inf(sign(off)), nil
	}
	return oneSidedLogMixture(off/d.Error*math.Sqrt(n), n, normalRho(float64(tuned), tunedLevel)), nil
}

func sign(x float64) int {
	if x > 0 {
		return 1
	}
	return -1
}

// oneSidedLogMixture returns the log of the mixture of exp(l s - l^2 v/2) over a
// half-normal l > 0 with variance 1/rho.
func oneSidedLogMixture(s, v, rho float64) float64 {
	return math.Ln2 + math.Log(rho/(v+rho))/2 + s*s/(2*(v+rho)) + logNormal(s/math.Sqrt(v+rho))
}

// logNormal returns the log of the standard normal distribution function.
func logNormal(x float64) float64 {
	if x > -30 {
		return math.Log(math.Erfc(-x/math.Sqrt2) / 2)
	}
	// The tail's expansion; its error is below 1e-5 of the value here.
	return -x*x/2 - math.Log(-x*math.Sqrt(2*math.Pi)) - 1/(x*x)
}

// Remove takes away values that were added, one by one or merged. What is left is exact
// but for rounding.
func (t *AdjustedMeans) Remove(o AdjustedMeans) {
	for a := range t.Arms {
		t.Arms[a].remove(o.Arms[a])
	}
}

// remove is the inverse of merge.
func (m *Moments) remove(o Moments) {
	if o.Values == 0 {
		return
	}
	if o.Values >= m.Values {
		*m = Moments{}
		return
	}
	all := *m
	n, b := float64(all.Values), float64(o.Values)
	a := n - b
	rest := Moments{Values: all.Values - o.Values, Mean: (n*all.Mean - b*o.Mean) / a, Covariate: (n*all.Covariate - b*o.Covariate) / a}
	d, e := o.Mean-rest.Mean, o.Covariate-rest.Covariate
	rest.Square = max(0, all.Square-o.Square-d*d*a*b/n)
	rest.CovSquare = max(0, all.CovSquare-o.CovSquare-e*e*a*b/n)
	rest.CovProduct = all.CovProduct - o.CovProduct - d*e*a*b/n
	rest.Cube = all.Cube - o.Cube - d*d*d*(a/n)*(b/n)*(a-b) - 3*d*(a*o.Square-b*rest.Square)/n
	*m = rest
}
