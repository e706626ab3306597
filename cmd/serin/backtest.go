package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"serin.dev/serin/analysis"
	"serin.dev/serin/analysis/policyfile"
	"serin.dev/serin/analysis/verdict"
	"serin.dev/serin/internal/store/segment"
)

// backtest recomputes a rollout's verdicts from the segments alone. It opens
// no journal, so that it runs beside a live server or on a copy of its folder.
func backtest(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("backtest", flag.ContinueOnError)
	segments := fs.String("segments", "serin-data/segments", "`folder` of the segments")
	tenantName := fs.String("tenant", "", "`tenant` of the rollout")
	policy := fs.String("policy", "", "`file` of a policy to try in place of the recorded one: what would have differed is printed")
	all := fs.Bool("all", false, "with a policy: of all of the tenant's rollouts, none is named")
	objective := fs.Bool("slo", false, "what is named is an objective, whose states are recomputed")
	want := 1
	if slices.Contains(args, "--all") || slices.Contains(args, "-all") {
		want = 0
	}
	rest, err := parse(fs, args, want, stderr)
	if err != nil {
		return err
	}
	if *all && *policy == "" {
		fmt.Fprintln(stderr, "serin backtest: all: want it with a policy")
		return errUsage
	}
	if *tenantName == "" {
		fmt.Fprintln(stderr, "serin backtest: tenant: \"\": want the tenant of what is named")
		return errUsage
	}
	s, err := segment.OpenReadOnly(*segments)
	if err != nil {
		return err
	}
	if *policy != "" {
		return tryPolicy(ctx, s, *tenantName, rest, *policy, stdout)
	}
	if *objective {
		return backtestSLO(ctx, s, *tenantName, rest[0], stdout)
	}
	replayed, err := analysis.Backtest(ctx, s, *tenantName, rest[0])
	if err != nil {
		return err
	}
	differ := 0
	for _, r := range replayed {
		same := "equal"
		if !r.Equal {
			same = fmt.Sprintf("DIFFERS: given %s, ln e %.6g, %d sessions", r.Given.Decision, float64(r.Given.LogEHarm), r.Given.Sessions.Canary)
			differ++
		}
		fmt.Fprintf(stdout, "%3d  %-8s  %-22s  ln e %8.3f  canary %7d  baseline %7d  %s\n", r.Again.Number, r.Again.Decision,
			r.Again.Reasons[0].Code, float64(r.Again.LogEHarm), r.Again.Sessions.Canary, r.Again.Sessions.Baseline, same)
	}
	effects, err := analysis.BacktestAftermath(ctx, s, *tenantName, rest[0])
	if err != nil {
		return err
	}
	for _, r := range effects {
		same := "equal"
		if !r.Equal {
			same = "DIFFERS: given " + r.Given.Sentence
			differ++
		}
		fmt.Fprintf(stdout, "%s  rollback ineffective: %v  canary %d of %d  %s\n", r.Given.Through.Format(time.RFC3339), r.Again.Ineffective, r.Again.After.Canary, r.Again.After.All, same)
	}
	fmt.Fprintf(stdout, "%d verdicts recomputed, %d differ\n", len(replayed), differ)
	if differ > 0 {
		return exit(1)
	}
	return nil
}

// backtestSLO recomputes the recorded states of an objective.
func backtestSLO(ctx context.Context, s *segment.Store, tenantName, name string, stdout io.Writer) error {
	replayed, err := analysis.BacktestSLO(ctx, s, tenantName, name)
	if err != nil {
		return err
	}
	differ := 0
	for _, r := range replayed {
		same := "equal"
		if !r.Equal {
			same = fmt.Sprintf("DIFFERS: given %d bad of %d: %s", r.Given.Budget.Bad, r.Given.Budget.Total, r.Given.Sentence)
			differ++
		}
		fmt.Fprintf(stdout, "%s  %3d  %-12s  bad %d of %d  %-8s  %s\n", r.Given.At.Format(time.RFC3339), r.Given.Number, r.Given.Group, r.Again.Budget.Bad, r.Again.Budget.Total, r.Again.Action, same)
	}
	fmt.Fprintf(stdout, "%d states recomputed, %d differ\n", len(replayed), differ)
	if differ > 0 {
		return exit(1)
	}
	return nil
}

// tryPolicy replays rollouts under another policy, and prints what would have
// differed. That something would is no failure: the exit status is 0.
func tryPolicy(ctx context.Context, s *segment.Store, tenantName string, rollouts []string, file string, stdout io.Writer) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read policy: %w", err)
	}
	p, err := policyfile.Policy(file, data)
	if err != nil {
		return told(err)
	}
	if len(rollouts) == 0 {
		if rollouts, err = analysis.Recorded(s, tenantName); err != nil {
			return err
		}
	}
	differing := 0
	for _, id := range rollouts {
		d, err := analysis.Try(ctx, s, tenantName, id, p)
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "rollout %s under policy %s, version %d\n", id, p.Name, p.Revision)
		printVerdicts(stdout, "given", d.Given)
		printVerdicts(stdout, "would", d.Would)
		differs := false
		for stage := range d.Rollout.Stages {
			given, was := analysis.Final(d.Given, stage)
			would, is := analysis.Final(d.Would, stage)
			if was || is {
				text := compare(given, was, would, is)
				differs = differs || text != "the same"
				fmt.Fprintf(stdout, "  stage %d: %s\n", stage, text)
			}
		}
		if differs {
			differing++
		}
	}
	fmt.Fprintf(stdout, "%d rollouts tried, %d would have been decided otherwise\n", len(rollouts), differing)
	return nil
}

func printVerdicts(w io.Writer, whose string, vs []verdict.Verdict) {
	for i := range vs {
		v := &vs[i]
		fmt.Fprintf(w, "  %s  %s  stage %d  %-8s  %-22s  ln e harm %8.3f\n", whose, v.IssuedAt.Format("2006-01-02 15:04:05"), v.Stage, v.Decision, v.Reasons[0].Code, float64(v.LogEHarm))
	}
}

// compare says in words how the first decisions of a stage differ.
func compare(given verdict.Verdict, was bool, would verdict.Verdict, is bool) string {
	switch {
	case !was:
		return fmt.Sprintf("no decision was given, and %s would have been: %s", would.Decision, would.Sentence)
	case !is:
		return fmt.Sprintf("%s was given, and no decision would have been", given.Decision)
	case given.Decision != would.Decision:
		return fmt.Sprintf("%s was given, and %s would have been: %s", given.Decision, would.Decision, would.Sentence)
	}
	switch d := would.IssuedAt.Sub(given.IssuedAt).Round(time.Second); {
	case d > 0:
		return fmt.Sprintf("%s, %v later", given.Decision, d)
	case d < 0:
		return fmt.Sprintf("%s, %v sooner", given.Decision, -d)
	}
	return "the same"
}
