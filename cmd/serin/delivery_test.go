package main

import (
	"os"
	"testing"
	"time"

	"serin.dev/serin/internal/bench/verdicts"
)

// TestDeliveryInTime is a short form of internal/bench/delivery, against this binary
// as a process of its own. Its bars are the design's.
func TestDeliveryInTime(t *testing.T) {
	env := []string{beSerin + "=1"}
	t.Run("failing receivers", func(t *testing.T) {
		d, err := verdicts.Decisions{Program: os.Args[0], Env: env, Dir: t.TempDir(), Rollouts: 20, Receivers: 10, Failing: 3, Every: 100 * time.Millisecond, Wait: 30 * time.Second, Seed: 1}.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("decision to 2xx: %v; %d requests failed", d.Delays, d.Refused)
		if p99 := d.Delays.Quantile(0.99); d.Missing > 0 || p99 > 30*time.Second || d.Refused == 0 {
			t.Errorf("p99 %v, %d missing, %d requests failed: want 30s, none, some", p99, d.Missing, d.Refused)
		}
	})
	t.Run("regression", func(t *testing.T) {
		all, err := verdicts.Regression{Program: os.Args[0], Env: env, Dir: t.TempDir(), Seeds: []uint64{1}, AtOnce: 1, PerMinute: 1000, Weight: 0.5, Failing: 0.03, More: 0.1, Limit: 90 * time.Second}.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%+v", all[0])
		if f := all[0]; f.Missed || f.Delay > time.Minute || f.Delay <= 0 {
			t.Errorf("%+v: want a rollback within a minute of the first bad beacon", f)
		}
	})
}
