package canary

import (
	"math"
	"slices"

	"serin.dev/serin/analysis/evalue"
	"serin.dev/serin/analysis/sketch"
	"serin.dev/serin/analysis/verdict"
)

// tunedValues is the number of values at which the evidence on a number is
// tightest: what a stage of some hours sees.
const tunedValues = 4000

// bucketsPerDoubling is how many buckets of [sketch.Histogram] a factor of 2 is.
const bucketsPerDoubling = 16

// shiftOf returns a margin, as a part of the value, in whole buckets, rounded
// down.
func shiftOf(margin float64) int {
	return int(math.Floor(bucketsPerDoubling*math.Log2(1+margin) + 1e-9))
}

// question asks for the log of the evidence that the canary's value is more than
// some margins above the baseline's (up), or less; for a margin of a decrease the signs turn.
type question func(up bool, margins float64) float64

// harm returns the log of the evidence that the canary's values are worse, by
// the guardrail's direction.
func (g *Guardrail) harm(ask question) float64 {
	switch g.Direction {
	case DirectionDecrease:
		return ask(false, 0)
	case DirectionEither:
		return logSum(ask(true, 0), ask(false, 0)) - math.Ln2
	}
	return ask(true, 0)
}

// safe returns the log of the evidence that they are not worse by the margin or
// more. For either direction both proofs are needed.
func (g *Guardrail) safe(ask question) float64 {
	switch g.Direction {
	case DirectionDecrease:
		return ask(true, 1) // higher than the baseline less the margin
	case DirectionEither:
		return min(ask(true, 1), ask(false, 1))
	}
	return ask(false, 1)
}

// harm returns the log of the evidence of harm in one stratum, that of the
// stages before among it.
func (d *Measured) harm(g *Guardrail) float64 { return d.Harm + g.harm(d.ask(g)) }

// safe returns that of safety.
func (d *Measured) safe(g *Guardrail) float64 { return d.Safe + g.safe(d.ask(g)) }

func (d *Measured) ask(g *Guardrail) question {
	return func(up bool, margins float64) float64 { return d.evidence(g, up, margins) }
}

// evidence answers a [question] about one stratum. Without enough values it is 0.
func (d *Measured) evidence(g *Guardrail, up bool, margins float64) float64 {
	direction, margin := g.asked(up, margins)
	switch {
	case g.Kind == KindQuantile:
		shift := 0
		if margins > 0 {
			shift = shiftOf(g.Margin)
		}
		return d.quantileEvidence(g.Quantile, direction, shift)
	case !g.approximate():
		if d.Bounded == nil {
			return 0
		}
		return d.Bounded.Evidence(direction, margin)
	}
	return refused(evalue.StratifiedEvidence([]evalue.AdjustedMeans{d.Sums}, g.Kind == KindRatio, direction, margin, tunedValues))
}

// asked returns a [question] in the words of package evalue.
func (g *Guardrail) asked(up bool, margins float64) (evalue.Direction, float64) {
	if up {
		return evalue.Higher, -margins * g.Margin // above baseline - margin
	}
	return evalue.Lower, margins * g.Margin // below baseline + margin
}

// approximate reports whether the evidence is a normal approximation, which takes
// hundreds of values: its strata are put together before it is taken.
func (g *Guardrail) approximate() bool {
	return g.Kind == KindRatio || g.Kind == KindMean && g.Bound == 0
}

// refused is 0, no evidence, where the approximation must not be relied on.
func refused(logE float64, err error) float64 {
	if err != nil {
		return 0
	}
	return logE
}

// quantileEvidence returns the log of the evidence that the canary's quantile is
// lower than that of the baseline raised by shift buckets, or higher than that
// lowered by it. The canary's histogram is moved against the shift; what would
// leave its ends stays in the last bucket, which favours the null.
func (d *Measured) quantileEvidence(p float64, direction evalue.Direction, shift int) float64 {
	move := -shift
	if direction == evalue.Higher {
		move = shift
	}
	baseline, canary := dense(d.Buckets, move)
	if len(baseline) == 0 {
		return 0
	}
	return evalue.NewQuantile(p, tunedValues).Evidence(baseline, canary, direction, 0)
}

// dense returns two histograms over the buckets that either has, the canary's
// moved by some buckets.
func dense(of [2]sketch.Histogram, move int) (baseline, canary []int64) {
	lo, hi := math.MaxInt, math.MinInt
	each := func(a int, do func(index int, n int64)) {
		for _, b := range of[a].Buckets {
			index := int(b.Index)
			if a == 1 {
				index = max(index+move, 0)
			}
			do(index, b.Count)
		}
	}
	for a := range of {
		each(a, func(i int, _ int64) { lo, hi = min(lo, i), max(hi, i) })
	}
	if lo > hi {
		return nil, nil
	}
	// An empty bucket at each end lets the quantile of an arm without values lie
	// outside of the other's.
	counts := [2][]int64{make([]int64, hi-lo+3), make([]int64, hi-lo+3)}
	for a := range of {
		each(a, func(i int, n int64) { counts[a][i-lo+1] += n })
	}
	return counts[0], counts[1]
}

// harmOfNumber returns the log of the harm e-process of a number: as
// [Test.harmOf], an average over places of what all strata share and of what
// hides in one.
func (t *Test) harmOfNumber(i int, drop *Network) float64 {
	g := t.rule(i)
	hidden := math.Inf(-1)
	for rank, k := range t.ranked {
		e := 0.0
		if d := t.measured(i, k, drop); d != nil {
			e = d.harm(&g)
		}
		hidden = logSum(hidden, e-math.Log(float64((rank+1)*(rank+2))))
	}
	hidden = logSum(hidden, -math.Log(float64(len(t.Strata)+1)))
	weightOfShared, weightOfHidden := t.places()
	return logSum(t.sharedHarm(i, drop)+math.Log(weightOfShared), hidden+math.Log(weightOfHidden))
}

// sharedHarm returns the log of the harm e-process of an effect that all strata
// share: a product over them, or of an approximation that of their average.
func (t *Test) sharedHarm(i int, drop *Network) float64 {
	g := t.rule(i)
	if g.approximate() {
		return t.Numbers[i].Harm + g.harm(t.askAll(i, &g, drop))
	}
	return t.over(i, drop, func(d *Measured) float64 { return d.harm(&g) })
}

// safeOfNumber returns the log of the safety e-process of a number.
func (t *Test) safeOfNumber(i int, drop *Network) float64 {
	g := t.rule(i)
	if g.approximate() {
		return t.Numbers[i].Safe + g.safe(t.askAll(i, &g, drop))
	}
	return t.over(i, drop, func(d *Measured) float64 { return d.safe(&g) })
}

// over sums over the strata that have values.
func (t *Test) over(i int, drop *Network, of func(*Measured) float64) (sum float64) {
	for _, k := range t.ranked {
		if d := t.measured(i, k, drop); d != nil {
			sum += of(d)
		}
	}
	return sum
}

// askAll answers a [question] about the average over strata.
func (t *Test) askAll(i int, g *Guardrail, drop *Network) question {
	strata := t.sums(i, drop)
	return func(up bool, margins float64) float64 {
		direction, margin := g.asked(up, margins)
		return refused(evalue.StratifiedEvidence(strata, g.Kind == KindRatio, direction, margin, tunedValues))
	}
}

// sums returns those of all strata.
func (t *Test) sums(i int, drop *Network) (all []evalue.AdjustedMeans) {
	for _, k := range t.ranked {
		if d := t.measured(i, k, drop); d != nil {
			all = append(all, d.Sums)
		}
	}
	return all
}

// measured returns what was measured in a stratum, without a network; nil for
// nothing.
func (t *Test) measured(i, k int, drop *Network) *Measured {
	if k >= len(t.Numbers[i].Strata) {
		return nil
	}
	return t.Numbers[i].Strata[k].without(drop.brought(i, k))
}

// pooledNumber returns what was measured over all strata in the stage, to be
// shown: no decision rests on it.
func (t *Test) pooledNumber(i int) Measured {
	var all Measured
	for _, k := range t.ranked {
		if d := t.measured(i, k, nil); d != nil {
			all.pool(d)
		}
	}
	return all
}

func (d *Measured) pool(o *Measured) {
	for a := range d.Buckets {
		sum := sketch.Histogram{Buckets: slices.Clone(d.Buckets[a].Buckets)}
		sum.Merge(&o.Buckets[a])
		d.Buckets[a] = sum
	}
	if o.Bounded == nil {
		return
	}
	if d.Bounded == nil {
		d.Bounded = evalue.NewBoundedMeans(o.Bounded.Bound)
	}
	means := *d.Bounded
	for a := range means.Arms {
		to, from := &means.Arms[a], &o.Bounded.Arms[a]
		to.Values += from.Values
		to.Sum += from.Sum
		for k := range to.LogAbove {
			to.LogAbove[k] += from.LogAbove[k]
			to.LogBelow[k] += from.LogBelow[k]
		}
	}
	d.Bounded = &means
}

// counted returns how many values there are, by arm.
func (d *Measured) counted(g *Guardrail) (n [2]int64) {
	for a := range n {
		switch {
		case g.Kind == KindQuantile:
			n[a] = d.Buckets[a].Count()
		case d.Bounded != nil:
			n[a] = d.Bounded.Arms[a].Values
		default:
			n[a] = d.Sums.Arms[a].Values
		}
	}
	return n
}

// numberFindings adds the evidence on each number to a verdict.
func (t *Test) numberFindings(v *verdict.Verdict) (logs, weights []float64) {
	for i := range t.Numbers {
		n, g := &t.Numbers[i], t.rule(i)
		e := t.harmOfNumber(i, nil)
		if g.critical() {
			logs, weights = append(logs, e), append(weights, g.Weight)
		}
		all, sums := t.pooledNumber(i), t.sums(i, nil)
		f := verdict.Finding{Guardrail: n.Name, Kind: g.Kind, Unit: unitOf(&g), Sessions: arms(n.Values), Effect: verdict.Effect{Ratio: verdict.Unknown, Lo: verdict.Unknown, Hi: verdict.Unknown, Alpha: intervalAlpha},
			LogEHarm: verdict.Bound(e), LogESafe: verdict.Bound(t.safeOfNumber(i, nil)), Margin: g.Margin, Required: !g.Optional}
		all.show(&g, sums, &f)
		v.Findings = append(v.Findings, f)
	}
	return logs, weights
}

func unitOf(g *Guardrail) string {
	if g.Unit == UnitUser {
		return UnitUser
	}
	return ""
}

// show fills in what was measured: of a quantile the ratio of the canary's to the
// baseline's, of others the difference, each with its interval.
func (d *Measured) show(g *Guardrail, sums []evalue.AdjustedMeans, f *verdict.Finding) {
	n := &verdict.Number{Metric: g.Metric, Baseline: verdict.Unknown, Canary: verdict.Unknown, Difference: verdict.Unknown, Lo: verdict.Unknown, Hi: verdict.Unknown}
	f.Number = n
	fill := func(x evalue.Difference, baseline float64, err error) {
		if err != nil {
			n.Refused = err.Error()
			return
		}
		n.Baseline, n.Canary = verdict.Bound(baseline), verdict.Bound(baseline+x.Estimate)
		n.Difference, n.Lo, n.Hi = verdict.Bound(x.Estimate), verdict.Bound(x.Low), verdict.Bound(x.High)
	}
	switch {
	case g.Kind == KindQuantile:
		if d.Buckets[0].Count() == 0 || d.Buckets[1].Count() == 0 {
			return
		}
		n.Baseline, n.Canary = verdict.Bound(d.Buckets[0].Quantile(g.Quantile)), verdict.Bound(d.Buckets[1].Quantile(g.Quantile))
		n.Difference = n.Canary - n.Baseline
		base, canary := dense(d.Buckets, 0)
		lo, hi := evalue.NewQuantile(g.Quantile, tunedValues).Shift(base, canary, intervalAlpha)
		ratio := func(buckets int) verdict.Bound {
			return verdict.Bound(math.Exp2(float64(buckets) / bucketsPerDoubling))
		}
		f.Effect.Ratio, f.Effect.Lo, f.Effect.Hi = n.Canary/n.Baseline, ratio(lo-1), ratio(hi+1)
		// Where an arm's quantile may lie past all values, there is no end.
		if hi >= len(base)-2 {
			f.Effect.Hi = verdict.Unknown
		}
		if lo <= 2-len(base) {
			f.Effect.Lo = verdict.Unknown
		}
	case !g.approximate():
		if d.Bounded == nil {
			return
		}
		baseline, canary := d.Bounded.Estimate()
		lo, hi := d.Bounded.Difference(intervalAlpha)
		fill(evalue.Difference{Estimate: canary - baseline, Low: lo, High: hi}, baseline, nil)
	default:
		x, baseline, err := evalue.Stratified(sums, g.Kind == KindRatio, intervalAlpha, tunedValues)
		fill(x, baseline, err)
	}
}
