// Command delivery measures how soon verdicts are delivered: from the decision to a
// receiver's 2xx, with all receivers well and with some failing, and from the first bad
// beacon that was acknowledged to the rollback. It starts a built server.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"serin.dev/serin/internal/bench/verdicts"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "delivery:", err)
		os.Exit(1)
	}
}

// The bars of the design.
const (
	healthyBar    = 2 * time.Second
	failingBar    = 30 * time.Second
	regressionBar = time.Minute
)

func run(ctx context.Context) error {
	program := flag.String("serin", "bin/serin", "`program` to measure")
	only := flag.String("only", "", "one of healthy, failing, flaky, regression; empty: all")
	rollouts := flag.Int("rollouts", 200, "`rollouts` that are rolled back")
	every := flag.Duration("every", 200*time.Millisecond, "`time` between decisions")
	seeds := flag.Int("seeds", 20, "`number` of seeds of the regression, from 1")
	atOnce := flag.Int("at-once", 4, "`seeds` whose clients run at the same time")
	flag.Parse()
	var faults []error
	for _, c := range []struct {
		name string
		bar  time.Duration
		o    verdicts.Decisions
	}{
		{"healthy", healthyBar, verdicts.Decisions{}},
		{"failing", failingBar, verdicts.Decisions{Failing: 3}},
		{"flaky", failingBar, verdicts.Decisions{Flaky: 0.3}},
	} {
		if *only != "" && *only != c.name {
			continue
		}
		o := c.o
		o.Program, o.Rollouts, o.Receivers, o.Every, o.Wait, o.Seed = *program, *rollouts, 10, *every, 2*time.Minute, 1
		err := inFolder(func(dir string) error {
			o.Dir = dir
			d, err := o.Run(ctx)
			if err != nil {
				return err
			}
			fmt.Printf("%-10s decision to 2xx: %v; %d missing, %d requests failed; %d rollouts, one each %v, %d receivers\n", c.name, d.Delays, d.Missing, d.Refused, o.Rollouts, o.Every, o.Receivers)
			if p99 := d.Delays.Quantile(0.99); p99 > c.bar || d.Missing > 0 {
				return fmt.Errorf("p99 %v, %d missing: want %v and none", p99, d.Missing, c.bar)
			}
			return nil
		})
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", c.name, err))
		}
	}
	if *only == "" || *only == "regression" {
		if err := inFolder(func(dir string) error { return regression(ctx, *program, dir, *seeds, *atOnce) }); err != nil {
			faults = append(faults, fmt.Errorf("regression: %w", err))
		}
	}
	return errors.Join(faults...)
}

func inFolder(do func(dir string) error) error {
	dir, err := os.MkdirTemp("", "serin-delivery-*")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer os.RemoveAll(dir)
	return do(dir)
}

// regression has 10 points more of a canary's sessions fail, at 1,000 of them a minute.
func regression(ctx context.Context, program, dir string, seeds, atOnce int) error {
	o := verdicts.Regression{Program: program, Dir: dir, AtOnce: atOnce, PerMinute: 1000, Weight: 0.3, Failing: 0.03, More: 0.1, Limit: 2 * time.Minute}
	for seed := range uint64(seeds) {
		o.Seeds = append(o.Seeds, seed+1)
	}
	all, err := o.Run(ctx)
	if err != nil {
		return err
	}
	var delays verdicts.Delays
	var late []string
	slices.SortFunc(all, func(a, b verdicts.Found) int { return int(a.Seed) - int(b.Seed) })
	for _, f := range all {
		switch {
		case f.Missed:
			late = append(late, fmt.Sprintf("seed %d: none", f.Seed))
			continue
		case f.Delay > regressionBar:
			late = append(late, fmt.Sprintf("seed %d: %v", f.Seed, f.Delay))
		}
		delays = append(delays, f.Delay)
		fmt.Printf("seed %2d    rollback after %6.1f s, %5d canary sessions: %s\n", f.Seed, f.Delay.Seconds(), f.Sessions, f.Sentence)
	}
	slices.Sort(delays)
	fmt.Printf("regression first bad beacon's acknowledgement to the rollback's 2xx: %v\n", delays)
	if len(late) > 0 {
		return fmt.Errorf("over %v: %s", regressionBar, strings.Join(late, ", "))
	}
	return nil
}
