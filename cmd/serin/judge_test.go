package main

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestJudgeIsScaleInvariant asks the command about the same columns in units
// from 1e-9 to 1e9: decisions and evidence stay, differences are in the unit.
func TestJudgeIsScaleInvariant(t *testing.T) {
	dir := t.TempDir()
	column := func(name string, seed uint64, factor, unit float64) string {
		rng := rand.New(rand.NewPCG(seed, 1))
		var b strings.Builder
		for range 1200 {
			v := factor * math.Exp(0.6*rng.NormFloat64())
			if rng.IntN(4) == 0 {
				v = factor // ties
			}
			fmt.Fprintln(&b, min(v, 20)*unit)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	// Which fields are in the unit; all other numbers are not.
	inUnit := map[string]bool{"margin": true, "estimate": true, "lower": true, "upper": true}
	labels := map[string]bool{}
	for _, c := range []struct {
		name    string
		factor  float64 // canary to baseline
		args    func(unit float64) []string
		results map[string]bool // fields that are in the unit
	}{
		{"mann-whitney, higher", 1.3, func(float64) []string { return []string{"--method", "mann-whitney"} }, inUnit},
		{"mann-whitney, alike", 1, func(float64) []string { return []string{"--method", "mann-whitney", "--effect-size", "cles"} }, inUnit},
		{"mann-whitney, lower", 0.8, func(float64) []string { return []string{"--method", "mann-whitney"} }, inUnit},
		{"quantile, higher", 1.6, func(float64) []string { return []string{"--metric", "quantile"} }, nil},
		{"quantile, alike", 1, func(float64) []string { return []string{"--metric", "quantile", "--margin", "0.5"} }, nil},
		{"mean, higher", 1.5, func(u float64) []string { return []string{"--metric", "mean", "--margin", fmt.Sprint(0.25 * u)} }, inUnit},
		{"bounded mean, higher", 1.9, func(u float64) []string {
			return []string{"--metric", "mean", "--margin", fmt.Sprint(0.25 * u), "--bounds", fmt.Sprintf("0,%v", 20*u)}
		}, inUnit},
	} {
		var want map[string]any
		for _, unit := range []float64{1, 1e-9, 3e-4, 7e5, 1e9} {
			args := append([]string{"judge", "--json", "--baseline", column("baseline.csv", 1, 1, unit), "--canary", column("canary.csv", 2, c.factor, unit)}, c.args(unit)...)
			status, stdout, stderr := runCommand(t, args...)
			got := map[string]any{}
			if err := json.Unmarshal([]byte(stdout), &got); err != nil || status != 0 {
				t.Fatalf("%s, times %v: status %d, %v, %s", c.name, unit, status, err, stderr)
			}
			if want == nil {
				want = got
				labels[got["classification"].(string)] = true
				continue
			}
			if len(got) != len(want) || got["classification"] != want["classification"] {
				t.Fatalf("%s, times %v: %v, want %v", c.name, unit, got, want)
			}
			for field, v := range want {
				x, ok := v.(float64)
				if !ok {
					continue // labels, and sides, whose numbers follow
				}
				y := got[field].(float64)
				if c.results[field] {
					y /= unit
				}
				if math.Abs(x-y) > 1e-6*max(1, math.Abs(x)) {
					t.Errorf("%s, times %v: %s is %v, want %v", c.name, unit, field, y, x)
				}
			}
		}
	}
	for _, label := range []string{"High", "Low", "Pass", "harm", "safe"} {
		if !labels[label] {
			t.Errorf("no case is %s: %v", label, labels)
		}
	}
}

// TestJudgeOfOddFiles: what a file or the flags have that cannot be judged is told with its
// place, and what can is.
func TestJudgeOfOddFiles(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name+".csv")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var small, large strings.Builder
	rng := rand.New(rand.NewPCG(3, 1))
	for range 600 {
		v := 5 + rng.NormFloat64()
		fmt.Fprintf(&small, "%ve-200\n", v)
		fmt.Fprintf(&large, "%ve200\n", v)
	}
	for _, c := range []struct {
		name, baseline, canary string
		args                   []string
		want                   string // of what is printed, or of the error
		fails                  bool
	}{
		{"a byte order mark before the first value", "\ufeff1\r\n0\r\n", "\ufeffv\r\n1\r\n0\r\n", []string{"--metric", "rate"}, "baseline 0.5 of 2, canary 0.5 of 2", false},
		{"no value of a rate", "0\n1\n", "v\n", []string{"--metric", "rate"}, "canary.csv: no values: want at least 1", true},
		{"more failures than sessions, after a header and a comment", "f,s\n1,2\n2,3\n", "f,s\n# of May\n1,2\n4,3\n", []string{"--metric", "rate"}, "canary.csv:4: 4 3: want 0 or 1", true},
		{"a rate without a value", "0\n1\n", "0\nNaN\n", []string{"--metric", "rate"}, "canary.csv:2: NaN: want 0 or 1", true},
		{"two columns for a quantile", "1\n", "a,b\n1,2\n", []string{"--metric", "quantile"}, "canary.csv:2: 2 columns: want 1", true},
		{"the mean of tiny values", small.String(), small.String(), []string{"--metric", "mean"}, "unproven  ln e harm 0 of 4.605, safe not stated without a margin", false},
		{"the mean of huge values", large.String(), large.String(), []string{"--metric", "mean", "--margin", "1e200"}, "safe  ln e harm 0 of 4.605, safe ", false},
		{"values that are alike", "1\n2\n", "2\n1\n", []string{"--method", "mann-whitney"}, "Pass\nthe values of both sides are the same\n", false},
		{"a difference that is no number", "1\n2\n", "1e308\n-1e308\n", []string{"--method", "mann-whitney"}, `canary.csv:1: "1e308": want a number of at most 4.49e+307 either way, or NaN`, true},
		{"a quantile of a mean", "1\n", "1\n", []string{"--metric", "mean", "--q", "0.5"}, "q: 0.5: want the metric quantile with it", true},
		{"alpha of the classical judge", "1\n", "1\n", []string{"--method", "mann-whitney", "--alpha", "0.1"}, "alpha: given: want the method e-value with it", true},
		{"the mean of values that are all the same", strings.Repeat("5\n", 600), strings.Repeat("6\n", 600), []string{"--metric", "mean"}, "the 600 values of the baseline are all the same", true},
		{"values that were removed", "NaN\n1\n", "2\nNaN\nNaN\n", []string{"--method", "mann-whitney", "--json"}, `"baseline_values":1,"canary_values":1}`, false},
		{"values that were replaced", "NaN\n1\n", "2\nNaN\nNaN\n", []string{"--method", "mann-whitney", "--json", "--nan", "replace"}, `"baseline_values":2,"canary_values":3}`, false},
		{"an endless margin", "1\n", "1\n", []string{"--metric", "mean", "--margin", "Inf"}, "margin: +Inf: want a finite number above 0", true},
	} {
		args := append([]string{"judge", "--baseline", file("baseline", c.baseline), "--canary", file("canary", c.canary)}, c.args...)
		status, stdout, stderr := runCommand(t, args...)
		if (status != 0) != c.fails || !strings.Contains(stdout+stderr, c.want) || strings.Contains(stdout, "NaN") {
			t.Errorf("%s: status %d, want %s in\n%s%s", c.name, status, c.want, stdout, stderr)
		}
	}
}
