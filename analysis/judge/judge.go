package judge

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// Direction says which deviations matter.
type Direction string

// The directions.
const (
	Increase Direction = "increase"
	Decrease Direction = "decrease"
	Either   Direction = "either"
)

// NaN says what becomes of values that are NaN.
type NaN string

// What may become of NaN.
const (
	Remove  NaN = "remove"
	Replace NaN = "replace" // by 0
)

// Effect is a measure of effect size.
type Effect string

// The measures of effect size.
const (
	MeanRatio Effect = "mean-ratio" // the canary's mean over the baseline's
	CLES      Effect = "cles"       // share of pairs in which the canary's value is larger
)

// Label is the classification of a metric.
type Label string

// The labels.
const (
	Pass   Label = "Pass"
	High   Label = "High"
	Low    Label = "Low"
	Nodata Label = "Nodata"
	// NodataFailMetric is Nodata of a metric that must have data and is not
	// critical.
	NodataFailMetric Label = "NodataFailMetric"
)

// Settings say how a metric is judged. Start from [Defaults].
type Settings struct {
	Tolerance  float64 // part of the estimated shift by which the interval must clear 0, in [0,1)
	Confidence float64 // of the interval, in (0,1)
	Direction  Direction
	NaN        NaN
	Effect     Effect
	// Effect sizes from which on a significant increase or decrease counts. An
	// effect size that is not defined, for a mean is 0, does not hold it back.
	AllowedIncrease, AllowedDecrease float64
	// Those from which on it is critical, if the metric is.
	CriticalIncrease, CriticalDecrease float64
	Critical                           bool
	MustHaveData                       bool
}

// Defaults returns Kayenta's settings for a measure of effect size: tolerance
// 0.25, confidence 0.98, either direction, NaN removed, thresholds of the effect
// size at no effect.
func Defaults(effect Effect) Settings {
	none := 1.0
	if effect == CLES {
		none = 0.5
	}
	return Settings{
		Tolerance: 0.25, Confidence: 0.98, Direction: Either, NaN: Remove, Effect: effect,
		AllowedIncrease: none, AllowedDecrease: none, CriticalIncrease: none, CriticalDecrease: none,
	}
}

// Check returns all faults of the settings together, naming each field, its
// value and what is allowed.
func (s Settings) Check() error {
	var faults []error
	fault := func(field string, value any, want string) {
		faults = append(faults, fmt.Errorf("%s: %v: want %s", field, value, want))
	}
	if !(s.Tolerance >= 0 && s.Tolerance < 1) {
		fault("tolerance", s.Tolerance, "a number in [0,1)")
	}
	if !(s.Confidence > 0 && s.Confidence < 1) {
		fault("confidence", s.Confidence, "a number in (0,1)")
	}
	if !slices.Contains([]Direction{Increase, Decrease, Either}, s.Direction) {
		fault("direction", fmt.Sprintf("%q", s.Direction), "increase, decrease or either")
	}
	if !slices.Contains([]NaN{Remove, Replace}, s.NaN) {
		fault("nan", fmt.Sprintf("%q", s.NaN), "remove or replace")
	}
	most, wanted := math.MaxFloat64, "a finite number of 0 or more"
	switch s.Effect {
	case CLES:
		most, wanted = 1, "a number in [0,1]"
	case MeanRatio:
	default:
		fault("effect-size", fmt.Sprintf("%q", s.Effect), "mean-ratio or cles")
	}
	for _, f := range []struct {
		name  string
		value float64
	}{
		{"allowed-increase", s.AllowedIncrease}, {"allowed-decrease", s.AllowedDecrease},
		{"critical-increase", s.CriticalIncrease}, {"critical-decrease", s.CriticalDecrease},
	} {
		if !(f.value >= 0 && f.value <= most) {
			fault(f.name, f.value, wanted)
		}
	}
	return errors.Join(faults...)
}

// Result is what was found about a metric. Where the samples were not compared
// (one is empty, both are alike) the numbers are NaN.
type Result struct {
	Classification Label
	Critical       bool    // this alone must fail the canary
	Reason         string  // in words; empty for a plain Pass
	Lower, Upper   float64 // interval of the shift, canary less baseline
	Estimate       float64 // the Hodges-Lehmann shift
	Effect         float64 // by the measure of the settings; NaN if not defined
	Canary         int     // values that were judged: without those that were removed
	Baseline       int     // likewise
}

// MaxValue is the largest value, either way, whose differences are computed.
const MaxValue = math.MaxFloat64 / 4

// Judge compares the canary's values with the baseline's. It returns an error
// for settings that [Settings.Check] refuses and for values beyond [MaxValue]. It
// takes time in the number of values times some 100.
//
// High means that the test rejects a shift of tolerance times the estimated one
// to the high side (that the interval clears it, in Kayenta's words), in a
// direction that matters, by an effect size that is not allowed. Low is its
// mirror. More than half of the differences may be 0, as for metrics that are
// mostly 0: the shift is 0 then and the decision that of the plain rank-sum
// test.
func Judge(canary, baseline []float64, s Settings) (Result, error) {
	if err := s.Check(); err != nil {
		return Result{}, fmt.Errorf("judge: settings: %w", err)
	}
	var sides [2][]float64
	for k, side := range []struct {
		name   string
		values []float64
	}{{"canary", canary}, {"baseline", baseline}} {
		for i, v := range side.values {
			switch {
			case math.Abs(v) > MaxValue:
				return Result{}, fmt.Errorf("judge: value %d of the %s: %v: want a number of at most %.3g either way, or NaN", i+1, side.name, v, float64(MaxValue))
			case !math.IsNaN(v):
				sides[k] = append(sides[k], v)
			case s.NaN == Replace:
				sides[k] = append(sides[k], 0)
			}
		}
	}
	canary, baseline = sides[0], sides[1]
	none := Result{Classification: Pass, Lower: math.NaN(), Upper: math.NaN(), Estimate: math.NaN(), Effect: math.NaN(), Canary: len(canary), Baseline: len(baseline)}
	if len(canary) == 0 || len(baseline) == 0 {
		return noData(none, s), nil
	}
	r := NewRankSum(canary, baseline)
	if slices.Equal(r.canary, r.baseline) || r.broken && r.canary[0] == r.baseline[0] {
		none.Reason = "the values of both sides are the same"
		return none, nil
	}
	return compare(r, s), nil
}

func noData(none Result, s Settings) Result {
	if s.NaN == Replace {
		return none // what is not there counts as 0 on both sides
	}
	none.Reason = fmt.Sprintf("%d values of the canary and %d of the baseline: nothing to compare", none.Canary, none.Baseline)
	none.Classification, none.Critical = Nodata, s.Critical
	if s.MustHaveData && !s.Critical {
		none.Classification = NodataFailMetric
	}
	return none
}

func compare(r *RankSum, s Settings) Result {
	res := Result{Classification: Pass, Estimate: r.Estimate(), Canary: len(r.canary), Baseline: len(r.baseline)}
	res.Lower, res.Upper = r.Interval(s.Confidence)
	if s.Effect == CLES {
		res.Effect = r.CLES()
	} else {
		res.Effect = meanRatio(r.canary, r.baseline)
	}
	z, tolerated := normalQuantile(s.Confidence), s.Tolerance*math.Abs(res.Estimate)
	reaches := func(threshold, sign float64) bool {
		return math.IsNaN(res.Effect) || sign*res.Effect >= sign*threshold
	}
	switch {
	case s.Direction != Decrease && r.Score(tolerated) > z && reaches(s.AllowedIncrease, 1):
		res.Classification = High
		res.Critical = s.Critical && reaches(s.CriticalIncrease, 1)
	case s.Direction != Increase && r.Score(-tolerated) < -z && reaches(s.AllowedDecrease, -1):
		res.Classification = Low
		res.Critical = s.Critical && reaches(s.CriticalDecrease, -1)
	default:
		if r.most() <= z {
			res.Reason = fmt.Sprintf("%d values of the canary and %d of the baseline: too few to differ at confidence %v, whatever they are", res.Canary, res.Baseline, s.Confidence)
		}
		return res
	}
	res.Reason = fmt.Sprintf("the canary is %s: shifted by %.4g, interval %.4g to %.4g at confidence %v", res.Classification, res.Estimate, res.Lower, res.Upper, s.Confidence)
	return res
}

// meanRatio returns the canary's mean over the baseline's; NaN if one is 0.
func meanRatio(canary, baseline []float64) float64 {
	c, b := mean(canary), mean(baseline)
	if c == 0 || b == 0 {
		return math.NaN()
	}
	return c / b
}

func mean(values []float64) (m float64) {
	for i, v := range values {
		m += (v - m) / float64(i+1)
	}
	return m
}
