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
