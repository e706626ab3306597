package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"serin.dev/serin/analysis/evalue"
)

// evidence is what two columns say, as JSON. Log e-values are natural
// logarithms.
type evidence struct {
	Metric         string   `json:"metric"`
	Method         string   `json:"method"`
	Validity       string   `json:"validity"`       // exact or asymptotic
	Classification string   `json:"classification"` // harm, safe or unproven
	LogEHarm       nullable `json:"log_e_harm"`     // against "the canary is not worse"; null: not stated
	LogESafe       nullable `json:"log_e_safe"`     // against "worse by the margin or more"
	LogNeededHarm  nullable `json:"log_needed_harm"`
	LogNeededSafe  nullable `json:"log_needed_safe"`
	Margin         nullable `json:"margin"`
	Effect         string   `json:"effect"` // what estimate, lower and upper are of
	Estimate       nullable `json:"estimate"`
	Lower          nullable `json:"lower"` // confidence sequence at level 1-beta; null: no bound
	Upper          nullable `json:"upper"`
	Baseline       side     `json:"baseline"`
	Canary         side     `json:"canary"`
}

// side is one column: how many values, and their rate, quantile or mean.
type side struct {
	Values   int64    `json:"values"`
	Estimate nullable `json:"estimate"`
}

func (j *judgeFlags) checkEvidence(given map[string]bool) error {
	var faults []error
	fault := func(field string, value any, want string) {
		faults = append(faults, fmt.Errorf("%s: %v: want %s", field, value, want))
	}
	if !slices.Contains([]string{"rate", "quantile", "mean"}, j.metric) {
		fault("metric", fmt.Sprintf("%q", j.metric), "rate, quantile or mean")
	}
	if j.direction == "" {
		j.direction = "increase"
	}
	if !slices.Contains([]string{"increase", "decrease", "either"}, j.direction) {
		fault("direction", fmt.Sprintf("%q", j.direction), "increase, decrease or either")
	}
	for _, f := range []struct {
		name string
		v    float64
	}{{"alpha", j.alpha}, {"beta", j.beta}, {"q", j.q}} {
		if !(f.v > 0 && f.v < 1) {
			fault(f.name, f.v, "a number in (0,1)")
		}
	}
	most, wanted := math.MaxFloat64, "a finite number above 0"
	if j.metric == "rate" {
		most, wanted = 10, "a number above 0, at most 10"
	}
	if given["margin"] && !(j.margin > 0 && j.margin <= most) {
		fault("margin", j.margin, wanted)
	}
	if given["q"] && j.metric != "quantile" {
		fault("q", j.q, "the metric quantile with it")
	}
	if given["bounds"] {
		if b, err := numbers("bounds", j.bounds); err != nil {
			faults = append(faults, err)
		} else if j.metric != "mean" || len(b) != 2 || !(b[0] < b[1]) || math.IsInf(b[1]-b[0], 0) {
			fault("bounds", fmt.Sprintf("%q", j.bounds), "two finite numbers lo,hi, the first the lower, and the metric mean")
		}
	}
	return errors.Join(faults...)
}

// evidence compares the columns and prints what they say.
func (j *judgeFlags) evidence(stdout io.Writer) error {
	var (
		e   evidence
		err error
	)
	switch j.metric {
	case "rate":
		e, err = j.rates()
	case "quantile":
		e, err = j.quantiles()
	default:
		e, err = j.means()
	}
	if err != nil {
		return err
	}
	e.Metric, e.Method = j.metric, j.method
	if j.margin == 0 {
		e.Margin, e.LogESafe = nullable(math.NaN()), nullable(math.NaN()) // no margin was named, and no good one is known
	}
	e.LogNeededHarm, e.LogNeededSafe = nullable(-math.Log(j.alpha)), nullable(-math.Log(j.beta))
	switch {
	case e.LogEHarm >= e.LogNeededHarm:
		e.Classification = "harm"
	case e.LogESafe >= e.LogNeededSafe:
		e.Classification = "safe"
	default:
		e.Classification = "unproven"
	}
	if j.asJSON {
		return json.NewEncoder(stdout).Encode(e)
	}
	safe := "safe not stated without a margin"
	if j.margin != 0 {
		safe = fmt.Sprintf("safe %.4g of %.4g", float64(e.LogESafe), float64(e.LogNeededSafe))
	}
	fmt.Fprintf(stdout, "%s  ln e harm %.4g of %.4g, %s  %s %.6g (%.6g to %.6g)  baseline %.6g of %d, canary %.6g of %d\n", e.Classification,
		float64(e.LogEHarm), float64(e.LogNeededHarm), safe, e.Effect, float64(e.Estimate), float64(e.Lower), float64(e.Upper),
		float64(e.Baseline.Estimate), e.Baseline.Values, float64(e.Canary.Estimate), e.Canary.Values)
	return nil
}

// toward returns the evidence in the direction that is harm. For either it is
// the mean of both, an e-value whatever their dependence; for safety it is the
// lesser, since both must be shown.
func (j *judgeFlags) toward(of func(decrease bool) (harm, safe float64)) (harm, safe float64) {
	if j.direction != "either" {
		return of(j.direction == "decrease")
	}
	up, upSafe := of(false)
	down, downSafe := of(true)
	return evalue.Average([]float64{up, down}), min(upSafe, downSafe)
}

// block is one row of failures and sessions.
type block struct{ failures, sessions int64 }

func readBlocks(path string) (blocks []block, err error) {
	const want = "0 or 1, or in rows of two columns whole numbers: failures, and sessions not below them"
	rows, err := readColumns(path, want, func(v float64) bool { return v >= 0 && v == math.Trunc(v) && v < 1<<53 })
	if err != nil {
		return nil, err
	}
	single := block{}
	for _, r := range rows {
		row := r.values
		bad := len(row) > 2
		for _, v := range row {
			bad = bad || math.IsNaN(v)
		}
		switch {
		case bad, len(row) == 1 && row[0] > 1, len(row) == 2 && row[0] > row[1]:
			return nil, fmt.Errorf("%s:%d: %s: want %s", path, r.line, strings.Trim(fmt.Sprint(row), "[]"), want)
		case len(row) == 1:
			single.failures += int64(row[0])
			single.sessions++
		default:
			blocks = append(blocks, block{int64(row[0]), int64(row[1])})
		}
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("%s: no values: want at least 1", path)
	}
	if blocks == nil {
		return []block{single}, nil
	}
	return blocks, nil
}

func (j *judgeFlags) rates() (e evidence, err error) {
	if j.margin == 0 {
		j.margin = 0.5
	}
	b, err := readBlocks(j.baseline)
	c, err2 := readBlocks(j.canary)
	if err := errors.Join(err, err2); err != nil {
		return e, err
	}
	if len(b) != len(c) {
		return e, fmt.Errorf("%s has %d rows of failures,sessions and %s %d (a column of 0 and 1 is one): want as many, which are compared one by one", j.baseline, len(b), j.canary, len(c))
	}
	g := evalue.NewGrid()
	var marks [2]evalue.Marks // and with the sides exchanged
	var failed [2]int64
	for i := range b {
		g.AddBatch(&marks[0], c[i].failures, b[i].failures, c[i].sessions, b[i].sessions)
		g.AddBatch(&marks[1], b[i].failures, c[i].failures, b[i].sessions, c[i].sessions)
		e.Baseline.Values += b[i].sessions
		e.Canary.Values += c[i].sessions
		failed[0] += b[i].failures
		failed[1] += c[i].failures
	}
	harm, safe := j.toward(func(decrease bool) (float64, float64) {
		m := marks[0]
		if decrease {
			m = marks[1]
		}
		return g.Harm(m), g.Safety(m, j.margin)
	})
	lo, hi := g.Interval(marks[0], j.beta)
	e.Validity, e.Effect = "exact", "odds_ratio"
	e.LogEHarm, e.LogESafe, e.Margin = nullable(harm), nullable(safe), nullable(j.margin)
	e.Estimate, e.Lower, e.Upper = nullable(g.Estimate(marks[0])), nullable(lo), nullable(hi)
	e.Baseline.Estimate = nullable(float64(failed[0]) / float64(e.Baseline.Values))
	e.Canary.Estimate = nullable(float64(failed[1]) / float64(e.Canary.Values))
	return e, nil
}

// columns reads both files, without what is NaN.
func (j *judgeFlags) columns(want string, allowed func(v float64) bool) (baseline, canary []float64, err error) {
	baseline, err = oneColumn(j.baseline, want, allowed)
	canary, err2 := oneColumn(j.canary, want, allowed)
	if err := errors.Join(err, err2); err != nil {
		return nil, nil, err
	}
	baseline, canary = slices.DeleteFunc(baseline, math.IsNaN), slices.DeleteFunc(canary, math.IsNaN)
	for _, f := range []struct {
		path   string
		values []float64
	}{{j.baseline, baseline}, {j.canary, canary}} {
		if len(f.values) == 0 {
			err = errors.Join(err, fmt.Errorf("%s: no values: want at least 1", f.path))
		}
	}
	return baseline, canary, err
}

// quantiles compares by counts at the values themselves, so that evidence does
// not depend on the unit: the test holds for any buckets, also for those.
func (j *judgeFlags) quantiles() (e evidence, err error) {
	if j.margin == 0 {
		j.margin = 0.1
	}
	baseline, canary, err := j.columns("a finite number of 0 or more", func(v float64) bool { return v >= 0 && !math.IsInf(v, 1) })
	if err != nil {
		return e, err
	}
	q := evalue.NewQuantile(j.q, int64(min(len(baseline), len(canary))))
	harm, safe := j.toward(func(decrease bool) (float64, float64) {
		worse, better, factor := evalue.Higher, evalue.Lower, 1+j.margin
		if decrease {
			worse, better, factor = evalue.Lower, evalue.Higher, 1/(1+j.margin)
		}
		_, b, c := bucketed(baseline, canary, 1)
		_, moved, c2 := bucketed(baseline, canary, factor)
		return q.Evidence(b, c, worse, 0), q.Evidence(moved, c2, better, 0)
	})
	edges, b, c := bucketed(baseline, canary, 1)
	ends := func(counts []int64) (lo, hi float64) {
		from, to := q.Interval(counts, j.beta/2)
		lo, hi = 0, math.Inf(1)
		if from > 0 {
			lo = edges[from-1]
		}
		if to < len(edges)-1 {
			hi = edges[to]
		}
		return lo, hi
	}
	bLo, bHi := ends(b)
	cLo, cHi := ends(c)
	at := func(values []float64) float64 {
		s := slices.Sorted(slices.Values(values))
		return s[min(int(math.Ceil(j.q*float64(len(s))))-1, len(s)-1)]
	}
	e.Validity, e.Effect = "exact", "quantile_ratio"
	e.LogEHarm, e.LogESafe, e.Margin = nullable(harm), nullable(safe), nullable(j.margin)
	e.Baseline = side{int64(len(baseline)), nullable(at(baseline))}
	e.Canary = side{int64(len(canary)), nullable(at(canary))}
	e.Estimate, e.Lower, e.Upper = nullable(float64(e.Canary.Estimate)/float64(e.Baseline.Estimate)), nullable(cLo/bHi), nullable(cHi/bLo)
	return e, nil
}

// bucketed counts both columns at the distinct values of both, those of the
// baseline times a factor. Bucket i ends at edges[i].
func bucketed(baseline, canary []float64, factor float64) (edges []float64, b, c []int64) {
	moved := make([]float64, len(baseline))
	for i, v := range baseline {
		moved[i] = v * factor
	}
	edges = slices.Compact(slices.Sorted(slices.Values(slices.Concat(moved, canary))))
	count := func(values []float64) []int64 {
		n := make([]int64, len(edges))
		for _, v := range values {
			i, _ := slices.BinarySearch(edges, v)
			n[i]++
		}
		return n
	}
	return edges, count(moved), count(canary)
}

func (j *judgeFlags) means() (e evidence, err error) {
	if j.bounds != "" {
		return j.boundedMeans()
	}
	finite := func(v float64) bool { return !math.IsInf(v, 0) }
	baseline, canary, err := j.columns("a finite number", finite)
	if err != nil {
		return e, err
	}
	unit := magnitude(baseline, canary)
	var t evalue.AdjustedMeans
	for k, values := range [][]float64{baseline, canary} {
		for _, v := range values {
			if err := t.Add(k == 1, v/unit, 0); err != nil {
				return e, err
			}
		}
	}
	n := int64(len(baseline) + len(canary))
	d, err := t.Difference(j.beta, n)
	if err != nil {
		return e, fmt.Errorf("the means of %s and %s: %w", j.baseline, j.canary, err)
	}
	harm, safe := j.toward(func(decrease bool) (float64, float64) {
		sign := 1.0
		if decrease {
			sign = -1
		}
		return pointwise(&t, n, sign, 0), pointwise(&t, n, -sign, -j.margin/unit)
	})
	e.Validity, e.Effect = "asymptotic", "mean_difference"
	e.LogEHarm, e.LogESafe, e.Margin = nullable(harm), nullable(safe), nullable(j.margin)
	e.Estimate, e.Lower, e.Upper = nullable(d.Estimate*unit), nullable(d.Low*unit), nullable(d.High*unit)
	e.Baseline = side{int64(len(baseline)), nullable(t.Arms[0].Mean * unit)}
	e.Canary = side{int64(len(canary)), nullable(t.Arms[1].Mean * unit)}
	return e, nil
}

// magnitude returns the power of two, by which nothing is rounded, that brings the
// values to about 1: third powers of theirs neither overflow nor vanish.
func magnitude(columns ...[]float64) float64 {
	most := 0.0
	for _, values := range columns {
		for _, v := range values {
			most = max(most, math.Abs(v))
		}
	}
	_, exponent := math.Frexp(most)
	return math.Ldexp(1, min(max(exponent, -1021), 1023))
}

// pointwise returns ln 1/level for the least level at which the confidence
// sequence shows that sign times the difference exceeds a margin: at most 0
// where none does.
func pointwise(t *evalue.AdjustedMeans, tuned int64, sign, margin float64) (logE float64) {
	shows := func(log float64) bool {
		d, err := t.Difference(min(math.Exp(-log), 1-1e-9), tuned)
		if err != nil {
			return false
		}
		if sign > 0 {
			return d.Low > margin
		}
		return -d.High > margin
	}
	lo, hi := 0.0, 600.0
	if !shows(lo) {
		return 0
	}
	for range 50 {
		if mid := (lo + hi) / 2; shows(mid) {
			lo = mid
		} else {
			hi = mid
		}
	}
	return lo
}

func (j *judgeFlags) boundedMeans() (e evidence, err error) {
	b, err := numbers("bounds", j.bounds)
	if err != nil {
		return e, err
	}
	lo, width := b[0], b[1]-b[0]
	baseline, canary, err := j.columns(fmt.Sprintf("a number in [%v,%v]", b[0], b[1]), func(v float64) bool { return v >= b[0] && v <= b[1] })
	if err != nil {
		return e, err
	}
	t := evalue.NewBoundedMeans(1)
	for k, values := range [][]float64{baseline, canary} {
		for _, v := range values {
			if err := t.Add(k == 1, min((v-lo)/width, 1)); err != nil {
				return e, err
			}
		}
	}
	mb, mc := t.Estimate()
	harm, safe := j.toward(func(decrease bool) (float64, float64) {
		if decrease {
			return t.Evidence(evalue.Lower, 0), t.Evidence(evalue.Higher, -j.margin/width)
		}
		return t.Evidence(evalue.Higher, 0), t.Evidence(evalue.Lower, -j.margin/width)
	})
	from, to := t.Difference(j.beta)
	e.Validity, e.Effect = "exact", "mean_difference"
	e.LogEHarm, e.LogESafe, e.Margin = nullable(harm), nullable(safe), nullable(j.margin)
	e.Estimate, e.Lower, e.Upper = nullable((mc-mb)*width), nullable(from*width), nullable(to*width)
	e.Baseline = side{int64(len(baseline)), nullable(lo + mb*width)}
	e.Canary = side{int64(len(canary)), nullable(lo + mc*width)}
	return e, nil
}
