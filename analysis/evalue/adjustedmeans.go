package evalue

import (
	"fmt"
	"math"
)

// The limits of [AdjustedMeans]. In simulations at the burn-in, with the skewest
// values that are let through, the share of confidence sequences that miss is
// below alpha (TestAdjustedRates).
const (
	// BurnIn is how many values of each arm are needed before the normal
	// approximation is used.
	BurnIn = 500
	// perSkewness is how many values of each arm are needed for each unit of
	// squared skewness. A rare event with probability p has a squared skewness
	// of 1/p: it needs this many events.
	perSkewness = 100
)

// AdjustedMeans is the state of a test of the means of two arms for values without
// a bound, with adjustment by one covariate that was known before the change
// (the user's mean in the weeks before: CUPED, Deng et al., 2013; a regression
// with one slope for both arms). Without covariate give 0 for it. It is plain
// data and may be kept as gob or JSON; the zero value has no values. The parts
// of a stream may be merged ([AdjustedMeans.Merge]).
//
// It is asymptotically valid only: its confidence sequence is one that holds at
// all times, of the Gaussian process that the mean comes to resemble (Waudby-
// Smith, Arbour, Sinha, Kennedy & Ramdas, Time-uniform central limit theory and
// asymptotic confidence sequences, Ann. Statist. 52, 2024, theorem 2.2). Values
// must be independent with finite variance, one for each unit of
// randomisation. So it refuses to say anything before [BurnIn] values per arm
// (with which such tests are nearly calibrated: Bibaut, Kallus & Lindon,
// Near-optimal non-parametric sequential tests and confidence sequences with
// possibly dependent observations, 2022), and where values are so skewed that
// more are needed: rare events are to be counted instead.
type AdjustedMeans struct {
	Arms [2]Moments // baseline, canary
}

// Moments are the sums of one arm, about its means.
type Moments struct {
	Values     int64
	Mean       float64 // of the values
	Covariate  float64 // mean of the covariate
	Square     float64 // sum of squared deviations of the values
	Cube       float64 // of cubed ones
	CovSquare  float64 // of squared deviations of the covariate
	CovProduct float64 // of products of both deviations
}

// Add folds in one value and its covariate. It returns an error, and changes
// nothing, if one is NaN or infinite. It takes about 10 ns.
func (t *AdjustedMeans) Add(canary bool, value, covariate float64) error {
	if math.IsNaN(value-value) || math.IsNaN(covariate-covariate) {
		return fmt.Errorf("evalue: value %v with covariate %v, want finite ones", value, covariate)
	}
	arm := &t.Arms[0]
	if canary {
		arm = &t.Arms[1]
	}
	arm.merge(Moments{Values: 1, Mean: value, Covariate: covariate})
	return nil
}

// Merge adds the values of another state.
func (t *AdjustedMeans) Merge(o AdjustedMeans) {
	for a := range t.Arms {
		t.Arms[a].merge(o.Arms[a])
	}
}

// merge joins sums about two means (Chan, Golub & LeVeque, 1983; for cubes
// Pébay, 2008, equation 2.1).
func (m *Moments) merge(o Moments) {
	if o.Values == 0 {
		return
	}
	a, b := float64(m.Values), float64(o.Values)
	n := a + b
	d, e := o.Mean-m.Mean, o.Covariate-m.Covariate
	m.Cube += o.Cube + d*d*d*(a/n)*(b/n)*(a-b) + 3*d*(a*o.Square-b*m.Square)/n
	m.Square += o.Square + d*d*a*b/n
	m.CovSquare += o.CovSquare + e*e*a*b/n
	m.CovProduct += o.CovProduct + d*e*a*b/n
	m.Mean += d * b / n
	m.Covariate += e * b / n
	m.Values += o.Values
}

// Difference is what [AdjustedMeans.Difference] finds out about the canary's mean
// less the baseline's.
type Difference struct {
	Estimate  float64 // adjusted for the covariate
	Error     float64 // standard error of the estimate
	Low       float64 // ends of the confidence sequence
	High      float64
	LogE      float64 // log of the asymptotic e-process against no difference
	Explained float64 // share of the variance that the covariate takes away
}

// Difference returns what is known about the difference of means, with a
// confidence sequence at level alpha that is tightest at tuned values of both
// arms together. The half width is the standard error times
//
//	sqrt((n+g)/n * ln((n+g)/(g alpha^2)))
//
// for n values, with g the parameter of the normal mixture for tuned ones
// (equation of theorem 2.2 with rho^2 = 1/g; package avlm, z_radius). It
// returns an error where the approximation must not be relied on: before the
// burn-in, without variance, or for values that are too skewed. It panics with
// "BUG:" if alpha is not in (0,1) or tuned below 1.
func (t *AdjustedMeans) Difference(alpha float64, tuned int64) (Difference, error) {
	if !(alpha > 0 && alpha < 1) || tuned < 1 {
		panic(fmt.Sprintf("BUG: alpha %v, tuned for %d values", alpha, tuned))
	}
	if err := t.ready(); err != nil {
		return Difference{}, err
	}
	b, c := t.Arms[0], t.Arms[1]
	var d Difference
	slope := 0.0
	if s := b.CovSquare + c.CovSquare; s > 0 {
		slope = (b.CovProduct + c.CovProduct) / s
	}
	// Mean square residuals of each arm, about its own line.
	residual := func(m Moments) float64 {
		return max(0, m.Square-2*slope*m.CovProduct+slope*slope*m.CovSquare) / float64(m.Values-2)
	}
	d.Estimate = c.Mean - b.Mean - slope*(c.Covariate-b.Covariate)
	variance := residual(b)/float64(b.Values) + residual(c)/float64(c.Values)
	d.Error = math.Sqrt(variance)
	raw := b.Square/float64(b.Values-1)/float64(b.Values) + c.Square/float64(c.Values-1)/float64(c.Values)
	d.Explained = 1 - variance/raw
	d.finish(t, alpha, tuned)
	return d, nil
}

// finish fills in what follows from an estimate and its error.
func (d *Difference) finish(t *AdjustedMeans, alpha float64, tuned int64) {
	n, g := float64(t.Arms[0].Values+t.Arms[1].Values), normalRho(float64(tuned), alpha)
	radius := d.Error * zRadius(n, g, alpha)
	d.Low, d.High = d.Estimate-radius, d.Estimate+radius
	if d.Error > 0 {
		z := d.Estimate / d.Error
		d.LogE = normalLogMixture(z*math.Sqrt(n), n, g)
	} else if d.Estimate != 0 {
		d.LogE = math.Inf(1) // the covariate explains all but the difference
	}
}

// ready returns why the normal approximation must not be relied on, if so.
func (t *AdjustedMeans) ready() error {
	for a, m := range t.Arms {
		name := [2]string{"baseline", "canary"}[a]
		n := float64(m.Values)
		if m.Values < BurnIn {
			return fmt.Errorf("evalue: the mean of %d values of the %s: at least %d are needed, since it is normal only approximately", m.Values, name, BurnIn)
		}
		if !(m.Square > 0) {
			return fmt.Errorf("evalue: the %d values of the %s are all the same: their mean has no variance to go by", m.Values, name)
		}
		skewness := m.Cube / math.Pow(m.Square, 1.5) * math.Sqrt(n)
		if need := perSkewness * skewness * skewness; n < need {
			return fmt.Errorf("evalue: the mean of %d values of the %s, whose skewness is %.1f: about %.0f are needed. Rare events must be counted, heavy tails compared by quantiles", m.Values, name, skewness, need)
		}
	}
	return nil
}

// zRadius returns the half width of a two-sided normal mixture's confidence
// sequence after n values, in standard errors.
func zRadius(n, g, alpha float64) float64 {
	return math.Sqrt((n + g) / n * (math.Log((n+g)/g) - 2*math.Log(alpha)))
}

// normalLogMixture returns the log of the two-sided normal mixture of a sum s
// with variance v (Robbins, 1970; Howard et al., 2021, equation 3.7).
func normalLogMixture(s, v, rho float64) float64 {
	return (math.Log(rho/(v+rho)) + s*s/(v+rho)) / 2
}

// MixtureRadius returns the half width of a two-sided confidence sequence for a sum
// of variance v, in standard deviations, with the normal mixture that is tightest
// at the variance tuned (Robbins, 1970; Howard et al., 2021, proposition 5). It
// holds at all v at once with probability at least 1-alpha where the sum is normal,
// and approximately where it is nearly so. v must not be negative, tuned above 0
// and alpha in (0,1); at v = 0 it is 0, as there is nothing to be wrong about.
func MixtureRadius(v, tuned, alpha float64) float64 {
	if !(v >= 0 && tuned > 0 && alpha > 0 && alpha < 1) {
		panic(fmt.Sprintf("BUG: variance %v, tuned %v, alpha %v", v, tuned, alpha))
	}
	if v == 0 {
		return 0
	}
	return zRadius(v, normalRho(tuned, alpha), alpha)
}
