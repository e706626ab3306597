package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"strings"

	"serin.dev/serin/analysis/judge"
)

// judgeFlags are what judge is asked.
type judgeFlags struct {
	baseline, canary string
	metric, method   string
	direction        string
	asJSON           bool
	// Of the evidence.
	alpha, beta, margin, q float64
	bounds                 string
	// Of the classical judge.
	settings judge.Settings
	nan      string
	effect   string
}

// judgeCommand compares two columns of numbers: by evidence that may be looked
// at again and again as rows are added, or as the classical judge does.
func judgeCommand(_ context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("judge", flag.ContinueOnError)
	var j judgeFlags
	fs.StringVar(&j.baseline, "baseline", "", "CSV `file` of the baseline's numbers; required")
	fs.StringVar(&j.canary, "canary", "", "CSV `file` of the canary's numbers; required")
	fs.StringVar(&j.metric, "metric", "", "`kind` of the numbers: rate (0 and 1, or rows of failures,sessions), quantile, mean; required but for mann-whitney")
	fs.StringVar(&j.method, "method", "e-value", "`method`: e-value, or mann-whitney for the classical judge")
	fs.StringVar(&j.direction, "direction", "", "`direction` that is harm: increase, decrease or either; default increase, and either for mann-whitney")
	fs.BoolVar(&j.asJSON, "json", false, "print JSON")
	fs.Float64Var(&j.alpha, "alpha", 0.01, "`bound` of the probability to find harm where there is none")
	fs.Float64Var(&j.beta, "beta", 0.05, "`bound` of the probability to find safety where there is none, and of an interval that misses")
	fs.Float64Var(&j.margin, "margin", 0, "tolerated `worsening`: of a rate's odds (default 0.5) or a quantile (default 0.1) as a part; of a mean in its unit (without it safety is not stated)")
	fs.Float64Var(&j.q, "q", 0.75, "which `quantile`, in (0,1)")
	fs.StringVar(&j.bounds, "bounds", "", "`lo,hi` between which the values of a mean lie, known before them; without it the evidence is asymptotic")
	fs.Float64Var(&j.settings.Tolerance, "tolerance", 0.25, "mann-whitney: `part` of the shift by which its interval must clear 0")
	fs.Float64Var(&j.settings.Confidence, "confidence", 0.98, "mann-whitney: `confidence` of the interval, in (0,1)")
	fs.StringVar(&j.nan, "nan", string(judge.Remove), "mann-whitney: what becomes of NaN, `remove` or replace (by 0)")
	fs.StringVar(&j.effect, "effect-size", string(judge.MeanRatio), "mann-whitney: `measure`, mean-ratio or cles")
	thresholds := map[string]*float64{}
	for _, t := range []struct {
		name string
		to   *float64
		help string
	}{
		{"allowed-increase", &j.settings.AllowedIncrease, "effect `size` from which on an increase counts"},
		{"allowed-decrease", &j.settings.AllowedDecrease, "effect `size` from which on a decrease counts"},
		{"critical-increase", &j.settings.CriticalIncrease, "effect `size` from which on an increase is critical"},
		{"critical-decrease", &j.settings.CriticalDecrease, "effect `size` from which on a decrease is critical"},
	} {
		fs.Float64Var(t.to, t.name, 1, "mann-whitney: "+t.help+"; 0.5 by default for cles")
		thresholds[t.name] = t.to
	}
	fs.BoolVar(&j.settings.Critical, "critical", false, "mann-whitney: the metric alone may fail the canary")
	fs.BoolVar(&j.settings.MustHaveData, "must-have-data", false, "mann-whitney: no data is a failure")
	if _, err := parse(fs, args, 0, stderr); err != nil {
		return err
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	defaults := judge.Defaults(judge.Effect(j.effect))
	for name, to := range thresholds {
		if !given[name] {
			*to = defaults.AllowedIncrease // all four begin at no effect
		}
	}
	if err := j.check(given); err != nil {
		for line := range strings.Lines(err.Error()) {
			fmt.Fprintf(stderr, "serin judge: %s\n", strings.TrimSpace(line))
		}
		return errUsage
	}
	if j.method == "mann-whitney" {
		return j.classical(stdout)
	}
	return j.evidence(stdout)
}

// check reports all faults of the flags together, and fills in defaults.
func (j *judgeFlags) check(given map[string]bool) error {
	var faults []error
	fault := func(field string, value any, want string) {
		faults = append(faults, fmt.Errorf("%s: %v: want %s", field, value, want))
	}
	for _, f := range []struct{ name, path string }{{"baseline", j.baseline}, {"canary", j.canary}} {
		if f.path == "" {
			fault(f.name, `""`, "a CSV file")
		}
	}
	for name := range given {
		if of := classicalFlags[name]; of && j.method != "mann-whitney" {
			fault(name, "given", "the method mann-whitney with it")
		}
	}
	switch j.method {
	case "mann-whitney":
		for _, name := range []string{"alpha", "beta", "margin", "q", "bounds"} {
			if given[name] {
				fault(name, "given", "the method e-value with it")
			}
		}
		if j.direction == "" {
			j.direction = string(judge.Either)
		}
		j.settings.Direction, j.settings.NaN, j.settings.Effect = judge.Direction(j.direction), judge.NaN(j.nan), judge.Effect(j.effect)
		faults = append(faults, j.settings.Check())
	case "e-value":
		faults = append(faults, j.checkEvidence(given))
	default:
		fault("method", fmt.Sprintf("%q", j.method), "e-value or mann-whitney")
	}
	return errors.Join(faults...)
}

// classicalFlags have no meaning without the classical judge.
var classicalFlags = map[string]bool{"tolerance": true, "confidence": true, "nan": true, "effect-size": true, "allowed-increase": true, "allowed-decrease": true,
	"critical-increase": true, "critical-decrease": true, "critical": true, "must-have-data": true}

// nullable is a number that JSON shows as null where it is none.
type nullable float64

// MarshalJSON writes null for NaN and infinities.
func (n nullable) MarshalJSON() ([]byte, error) {
	if v := float64(n); math.IsNaN(v) || math.IsInf(v, 0) {
		return []byte("null"), nil
	}
	return json.Marshal(float64(n))
}

// classified is what the classical judge says, as JSON.
type classified struct {
	Classification judge.Label `json:"classification"`
	Critical       bool        `json:"critical"`
	Reason         string      `json:"reason"`
	Lower          nullable    `json:"lower"` // of the interval of the shift; null: not compared
	Upper          nullable    `json:"upper"`
	Estimate       nullable    `json:"estimate"`
	Effect         nullable    `json:"effect"`          // null: not defined
	Baseline       int         `json:"baseline_values"` // those that were judged
	Canary         int         `json:"canary_values"`
}

func (j *judgeFlags) classical(stdout io.Writer) error {
	finite := func(v float64) bool { return math.Abs(v) <= judge.MaxValue }
	want := fmt.Sprintf("a number of at most %.3g either way, or NaN", float64(judge.MaxValue))
	baseline, err := oneColumn(j.baseline, want, finite)
	canary, err2 := oneColumn(j.canary, want, finite)
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	r, err := judge.Judge(canary, baseline, j.settings)
	if err != nil {
		return err
	}
	out := classified{r.Classification, r.Critical, r.Reason, nullable(r.Lower), nullable(r.Upper), nullable(r.Estimate), nullable(r.Effect), r.Baseline, r.Canary}
	if j.asJSON {
		return json.NewEncoder(stdout).Encode(out)
	}
	fmt.Fprint(stdout, out.Classification)
	if !math.IsNaN(r.Estimate) {
		fmt.Fprintf(stdout, "  shift %.6g (%.6g to %.6g at %g)", r.Estimate, r.Lower, r.Upper, j.settings.Confidence)
	}
	if !math.IsNaN(r.Effect) {
		fmt.Fprintf(stdout, "  effect %.4g", r.Effect)
	}
	fmt.Fprintln(stdout)
	if r.Reason != "" {
		fmt.Fprintln(stdout, r.Reason)
	}
	return nil
}
