package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"serin.dev/serin/alerting/alert"
	"serin.dev/serin/analysis/openslo"
	"serin.dev/serin/analysis/slo"
	"serin.dev/serin/analysis/verdict"
	"serin.dev/serin/analysis/yamlfile"
)

// alertTests is a file of tests of alerts (docs/alerts.md).
type alertTests struct {
	Objectives []string    `json:"objectives"` // OpenSLO files, relative to this one
	Tests      []alertTest `json:"tests"`
}

type alertTest struct {
	Name      string        `json:"name"`
	Objective string        `json:"objective"`
	Start     string        `json:"start"` // RFC 3339; default 2026-01-05T00:00:00Z, a Monday
	Input     []inputSeries `json:"input"`
	Expect    []expectation `json:"expect"`
}

// inputSeries is numbers for each minute of [From, To).
type inputSeries struct {
	Cohort   string     `json:"cohort"`
	From     timeOffset `json:"from"`
	To       timeOffset `json:"to"`
	Total    int64      `json:"total"`
	Good     int64      `json:"good"`
	Clients  int64      `json:"clients"`
	Sessions *int64     `json:"sessions"` // default: total
}

// expectation is what must be so at a time.
type expectation struct {
	At       timeOffset `json:"at"`
	Cohort   string     `json:"cohort"`
	Firing   []string   `json:"firing"`  // names of alerts, all of them
	Pending  *[]string  `json:"pending"` // likewise; absent: not looked at
	Severity *string    `json:"severity"`
}

// timeOffset is a length of time since the start.
type timeOffset struct{ time.Duration }

// UnmarshalText reads what time.ParseDuration does.
func (o *timeOffset) UnmarshalText(text []byte) (err error) {
	o.Duration, err = time.ParseDuration(string(text))
	return err
}

// The bounds of a test.
const (
	maxTestLength = 60 * 24 * time.Hour
	maxTestUnits  = 1_000_000_000 // in a minute
	maxTestBad    = 10_000        // likewise: each is told apart
)

// testStart is where tests begin that do not say.
var testStart = time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)

// testCommand runs tests of alerts and prints all failures.
func testCommand(_ context.Context, args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("test", flag.ContinueOnError)
	files, err := parseSome(f, args, stderr, "FILE...")
	if err != nil {
		return err
	}
	failed := false
	for _, name := range files {
		tests, reader, objectives, err := readAlertTests(name)
		if err != nil {
			return told(err)
		}
		failures, expectations := 0, 0
		for i := range tests.Tests {
			t := &tests.Tests[i]
			expectations += len(t.Expect)
			for _, fail := range t.run(objectives[t.Objective]) {
				failures++
				fmt.Fprintf(stdout, "%s:%d: %s: %s\n", name, reader.Line(fmt.Sprintf("tests[%d].expect[%d]", i, fail.expect)), t.Name, fail.text)
			}
		}
		fmt.Fprintf(stdout, "%s: %d tests, %d expectations, %d failures\n", name, len(tests.Tests), expectations, failures)
		failed = failed || failures > 0
	}
	if failed {
		return exit(1)
	}
	return nil
}

// readAlertTests reads a file of tests, and the objectives it names, by name. The
// error has all faults.
func readAlertTests(name string) (*alertTests, *yamlfile.Reader, map[string]slo.Objective, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("read: %w", err)
	}
	roots, err := yamlfile.Documents(data)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(roots) != 1 {
		return nil, nil, nil, fmt.Errorf("%s: %d documents: want one", name, len(roots))
	}
	tests, r := &alertTests{}, &yamlfile.Reader{Plain: true}
	if r.Document(roots[0], "alert-test", tests); len(r.Faults) > 0 {
		return nil, nil, nil, &yamlfile.Faults{File: name, Faults: r.Faults}
	}
	var files []*openslo.File
	var faults []error
	for _, path := range tests.Objectives {
		if !filepath.IsAbs(path) {
			path = filepath.Join(filepath.Dir(name), path)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s:%d: objectives: %w", name, r.Line("objectives"), err))
			continue
		}
		f, err := openslo.Parse(path, text)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		files = append(files, f)
	}
	if len(faults) > 0 {
		return nil, nil, nil, errors.Join(faults...)
	}
	all, _, err := openslo.Compile(files...)
	if err != nil {
		return nil, nil, nil, err
	}
	objectives := map[string]slo.Objective{}
	var names []string
	for _, o := range all {
		objectives[o.Name] = o
		names = append(names, o.Name)
	}
	var found []yamlfile.Fault
	if len(tests.Tests) == 0 {
		found = append(found, yamlfile.Fault{Line: r.Line("tests"), Field: "tests", Value: "none", Want: "at least one: what tests nothing passes whatever is so"})
	}
	for i := range tests.Tests {
		t := &tests.Tests[i]
		path := fmt.Sprintf("tests[%d]", i)
		fault := func(field, value, want string) {
			where := path + "." + field
			found = append(found, yamlfile.Fault{Line: r.Line(where), Field: where, Value: value, Want: want})
		}
		o, ok := objectives[t.Objective]
		if !ok {
			fault("objective", fmt.Sprintf("%q", t.Objective), "one of the files' objectives: "+strings.Join(names, ", "))
			continue
		}
		t.check(&o, fault)
	}
	if len(found) > 0 {
		return nil, nil, nil, &yamlfile.Faults{File: name, Faults: found}
	}
	return tests, r, objectives, nil
}

// check notes what is wrong with a test.
func (t *alertTest) check(o *slo.Objective, fault func(field, value, want string)) {
	if t.Name == "" {
		fault("name", "absent", "a name, for failures")
	}
	if t.Start != "" {
		if _, err := time.Parse(time.RFC3339, t.Start); err != nil {
			fault("start", fmt.Sprintf("%q", t.Start), "a time as 2026-01-05T00:00:00Z")
		}
	}
	minutes := func(field string, d timeOffset) {
		if d.Duration < 0 || d.Duration > maxTestLength || d.Duration%time.Minute != 0 {
			fault(field, d.String(), "whole minutes, from 0m to "+maxTestLength.String())
		}
	}
	for i, in := range t.Input {
		path := fmt.Sprintf("input[%d]", i)
		minutes(path+".from", in.From)
		minutes(path+".to", in.To)
		if in.To.Duration <= in.From.Duration {
			fault(path+".to", in.To.String(), "more than from, "+in.From.String())
		}
		if in.Total < 0 || in.Total > maxTestUnits {
			fault(path+".total", fmt.Sprint(in.Total), fmt.Sprintf("0 to %d a minute", maxTestUnits))
		} else if in.Good > in.Total || in.Good < in.Total-maxTestBad || in.Good < 0 {
			fault(path+".good", fmt.Sprint(in.Good), fmt.Sprintf("%d to %d, the total", max(in.Total-maxTestBad, 0), in.Total))
		}
		if in.Clients < 0 || in.Clients > maxTestBad {
			fault(path+".clients", fmt.Sprint(in.Clients), fmt.Sprintf("0 to %d", maxTestBad))
		}
		if in.Sessions != nil && (*in.Sessions < 0 || *in.Sessions > maxTestUnits) {
			fault(path+".sessions", fmt.Sprint(*in.Sessions), fmt.Sprintf("0 to %d a minute", maxTestUnits))
		}
		if in.Cohort != "" && o.GroupBy == "" {
			fault(path+".cohort", fmt.Sprintf("%q", in.Cohort), "none: the objective has no group_by")
		}
	}
	if len(t.Expect) == 0 {
		fault("expect", "nothing", "what must be so, and when")
	}
	known := []string{verdict.NoTraffic.String(), verdict.Uninstrumented.String()}
	for _, a := range o.Alerts {
		known = append(known, a.Name)
	}
	for i, e := range t.Expect {
		path := fmt.Sprintf("expect[%d]", i)
		minutes(path+".at", e.At)
		names := e.Firing
		if e.Pending != nil {
			names = append(slices.Clone(names), *e.Pending...)
		}
		for _, n := range names {
			if !slices.Contains(known, n) {
				fault(path, fmt.Sprintf("%q", n), "alerts of the objective: "+strings.Join(known, ", "))
			}
		}
		if e.Cohort != "" && o.GroupBy == "" {
			fault(path+".cohort", fmt.Sprintf("%q", e.Cohort), "none: the objective has no group_by")
		}
	}
}

// failure is an expectation that does not hold.
type failure struct {
	expect int
	text   string
}

// run feeds the series to the arithmetic and the state machine of the server, a
// minute at a time, and compares.
func (t *alertTest) run(o slo.Objective) (failures []failure) {
	start := testStart
	if t.Start != "" {
		start, _ = time.Parse(time.RFC3339, t.Start) // it was checked
	}
	start = start.Truncate(time.Minute)
	length := time.Duration(0)
	for _, e := range t.Expect {
		length = max(length, e.At.Duration)
	}
	counts, book := slo.NewBook(o, start.UnixMilli()), alert.New(alert.Policy{}, nil)
	for d := time.Duration(0); d <= length; d += time.Minute {
		now := start.Add(d)
		counts.Advance(now.UnixMilli())
		if err := counts.Evaluate("test", slo.Question{At: now.UnixMilli()}, book.Observe); err != nil {
			return []failure{{0, err.Error()}} // a zone, which all expectations share
		}
		for i, e := range t.Expect {
			if e.At.Duration == d {
				for _, text := range e.compare(book.Incidents("test", now), o.Name) {
					failures = append(failures, failure{i, text})
				}
			}
		}
		for _, in := range t.Input {
			if in.From.Duration <= d && d < in.To.Duration {
				sessions := in.Total
				if in.Sessions != nil {
					sessions = *in.Sessions
				}
				counts.Feed(slo.Feed{Group: in.Cohort, At: int32(now.Unix() / 60), Total: in.Total, Bad: in.Total - in.Good, Clients: in.Clients, Sessions: sessions})
			}
		}
	}
	slices.SortStableFunc(failures, func(a, b failure) int { return a.expect - b.expect })
	return failures
}

// compare returns what is not as expected.
func (e *expectation) compare(views []alert.View, objective string) (texts []string) {
	var firing, pending []string
	severity, rates := "", ""
	for _, v := range views {
		if v.SLO != objective || v.Cohort != e.Cohort {
			continue
		}
		severity = v.Severity
		for _, a := range v.Alerts {
			switch a.Phase {
			case alert.Firing:
				firing = append(firing, a.Name)
			case alert.Pending:
				pending = append(pending, a.Name)
			}
			long, _ := json.Marshal(a.LongRate) // a Bound is always JSON
			short, _ := json.Marshal(a.ShortRate)
			rates += fmt.Sprintf("; %s: rates %s and %s of %g", a.Name, long, short, a.Threshold)
		}
	}
	is := func(what string, got, want []string) {
		got, want = slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))
		if !slices.Equal(got, want) {
			texts = append(texts, fmt.Sprintf("at %v: %s: %s: want %s%s", e.At, what, list(got), list(want), rates))
		}
	}
	is("firing", firing, e.Firing)
	if e.Pending != nil {
		is("pending", pending, *e.Pending)
	}
	if e.Severity != nil && severity != *e.Severity {
		texts = append(texts, fmt.Sprintf("at %v: severity: %q: want %q", e.At, severity, *e.Severity))
	}
	return texts
}

func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
