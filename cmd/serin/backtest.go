package main

import (
	"context"
	"flag"
	"fmt"
	"io"

	"serin.dev/serin/analysis"
	"serin.dev/serin/internal/store/segment"
)

// backtest recomputes a rollout's verdicts from the segments alone. It opens
// no journal, so that it runs beside a live server or on a copy of its folder.
func backtest(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("backtest", flag.ContinueOnError)
	segments := fs.String("segments", "serin-data/segments", "`folder` of the segments")
	tenantName := fs.String("tenant", "", "`tenant` of the rollout")
	rest, err := parse(fs, args, 1, stderr)
	if err != nil {
		return err
	}
	s, err := segment.OpenReadOnly(*segments)
	if err != nil {
		return err
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
	fmt.Fprintf(stdout, "%d verdicts recomputed, %d differ\n", len(replayed), differ)
	if differ > 0 {
		return exit(1)
	}
	return nil
}
