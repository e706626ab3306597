package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"text/tabwriter"

	"serin.dev/serin/analysis"
	"serin.dev/serin/analysis/exposure"
)

// next prints what a rollout reached and cost so far, and what is proposed as its
// next step. It changes nothing.
func next(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("next", flag.ContinueOnError)
	var r remote
	server, token := r.flags(f, "viewer's")
	asJSON := f.Bool("json", false, "print the meter as JSON")
	rest, err := parse(f, args, 1, stderr)
	if err != nil {
		return err
	}
	r.server, r.token = *server, *token
	if r.token == "" {
		r.token = os.Getenv("SERIN_TOKEN")
	}
	var s analysis.Status
	if err := r.read(ctx, "/v1/rollouts/"+url.PathEscape(rest[0]), &s); err != nil {
		return err
	}
	if s.Exposure == nil {
		why := "it was not evaluated yet"
		if s.Ended {
			why = "it has ended"
		}
		return fmt.Errorf("rollout %s has no next step: %s", rest[0], why)
	}
	if *asJSON {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", " ")
		return enc.Encode(s.Exposure)
	}
	fmt.Fprintf(stdout, "%s\n\n", s.Verdict.Sentence)
	printMeter(stdout, s.Exposure, 100)
	return nil
}

// printMeter prints an exposure meter.
func printMeter(w io.Writer, m *exposure.Meter, width int) {
	for _, line := range wrap("Next step: "+m.Why, width) {
		fmt.Fprintln(w, line)
	}
	fmt.Fprintf(w, "Exposed so far: %d sessions of about %d users; %s sessions an hour come.\n", m.Sessions, m.Users, figure(m.PerHour))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "GUARDRAIL\tFAILED ON THE CANARY\tMORE THAN THE BASELINE'S\tINTERVAL\t")
	for _, h := range m.Harm {
		fmt.Fprintf(t, "%s\t%d\t%s\t%s to %s\t\n", h.Guardrail, h.Failures.Canary, whole(h.Excess), whole(h.Lo), whole(h.Hi))
	}
	_ = t.Flush() // a writer that is gone is no fault of ours
	if m.Planned == nil && m.Proposed == nil {
		return
	}
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "STEP\tSHARE\tIN\tSESSIONS\tUSERS\tDECIDES AFTER\tHARM AT MOST\tUNTIL FOUND\tIN\t")
	for _, o := range []struct {
		name string
		*exposure.Outcome
	}{{"planned", m.Planned}, {"proposed", m.Proposed}} {
		if o.Outcome == nil {
			continue
		}
		fmt.Fprintf(t, "%s\t%.3g %%\t%.3g h\t%s\t%s\t%s h\t%s\t%s\t%s\t\n", o.name, 100*o.Share, o.Hours, whole(o.Sessions), whole(o.Users), figure(o.Decides), whole(o.Excess), whole(o.Found), o.Guardrail)
	}
	_ = t.Flush()
	if len(m.Untold) > 0 {
		fmt.Fprintf(w, "Not counted, since how fast their evidence grows is not known: %v.\n", m.Untold)
	}
}
