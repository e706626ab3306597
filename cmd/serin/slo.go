package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"

	"serin.dev/serin/analysis/slo"
	"serin.dev/serin/analysis/verdict"
)

// The exit statuses of serin slo gate. Anything else means that there is no
// answer, which a pipeline must treat as approval.
const (
	exitApproval exit = 10
	exitFreeze   exit = 20
)

// sloCommand asks a server about its objectives: their state, who spent a budget,
// and whether it lets a pipeline go on.
func sloCommand(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("slo", flag.ContinueOnError)
	server := fs.String("server", envOr("SERIN_SERVER", "http://127.0.0.1:8711"), "`URL` of the server (SERIN_SERVER)")
	token := fs.String("token", "", "viewer's `token`; better given as SERIN_TOKEN, which other users of the machine do not see")
	asJSON := fs.Bool("json", false, "print the server's answer as JSON")
	want := 2
	if len(args) > 0 && args[0] == "status" {
		want = 1
	}
	rest, err := parse(fs, args, want, stderr)
	if err != nil {
		return err
	}
	if *token == "" {
		*token = os.Getenv("SERIN_TOKEN")
	}
	u := *server + "/v1/slos"
	switch rest[0] {
	case "status":
	case "who", "gate":
		u += "/" + url.PathEscape(rest[1]) + "/" + rest[0]
	default:
		fmt.Fprintf(stderr, "serin slo: %q: want status, who or gate\n", rest[0])
		return errUsage
	}
	raw, err := get(ctx, u, *token)
	if err != nil {
		return err
	}
	var answer struct {
		SLOs     []verdict.SLOState
		Action   verdict.Action
		Sentence string
		slo.Who
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	switch {
	case *asJSON:
		fmt.Fprintf(stdout, "%s\n", strings.TrimSpace(string(raw)))
	case rest[0] == "status":
		printStates(stdout, answer.SLOs)
	case rest[0] == "who":
		printWho(stdout, &answer.Who)
	default:
		fmt.Fprintf(stdout, "%s\n%s\n", answer.Action, answer.Sentence)
	}
	if rest[0] == "gate" {
		switch answer.Action {
		case verdict.Approval:
			return exitApproval
		case verdict.Freeze:
			return exitFreeze
		}
	}
	return nil
}

func printStates(w io.Writer, all []verdict.SLOState) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "OBJECTIVE\tGROUP\tTARGET\tBAD\tLEFT\tDATA\tACTION\tINCIDENT")
	for i := range all {
		s := &all[i]
		incident := "-"
		if s.Incident != nil {
			incident = s.Incident.Severity + " since " + s.Incident.Since.Format("2006-01-02 15:04Z")
		}
		fmt.Fprintf(t, "%s\t%s\t%.6g %%\t%d of %d\t%s\t%s\t%s\t%s\n", s.SLO, s.Group, 100*s.Target, s.Budget.Bad, s.Budget.Total, percent(s.Budget.Remaining), s.Data, s.Action, incident)
	}
	_ = t.Flush() // as with all that is printed, a reader that has gone is no error of ours
}

// percent prints a share, or a dash where it is not known.
func percent(b verdict.Bound) string {
	if b != b {
		return "-"
	}
	return fmt.Sprintf("%.1f %%", 100*float64(b))
}

func printWho(w io.Writer, who *slo.Who) {
	fmt.Fprintf(w, "%s: %d of %d %ss are bad from %s to %s, where %.1f may be.\n", who.SLO, who.Bad, who.Total, who.Unit, who.From.Format("2006-01-02 15:04Z"), who.To.Format("2006-01-02 15:04Z"), who.Allowed)
	for _, part := range []struct {
		title string
		rows  []slo.Share
	}{{"RELEASE", who.Releases}, {"ARM", who.Arms}, {"STRATUM", who.Strata}} {
		fmt.Fprintln(w)
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, part.title+"\tBAD\tBUDGET\tEXCESS\t95 % INTERVAL\tCOMPARED")
		for _, s := range part.rows {
			name, excess, interval := s.Name, "-", "-"
			if name == "" {
				name = "all"
			}
			if s.Excess == s.Excess {
				excess, interval = fmt.Sprintf("%+.1f", float64(s.Excess)), fmt.Sprintf("%+.1f to %+.1f", float64(s.Lo), float64(s.Hi))
			}
			fmt.Fprintf(t, "%s\t%d of %d\t%s\t%s\t%s\t%d\n", name, s.Bad, s.Total, percent(s.Spent), excess, interval, s.Compared)
		}
		_ = t.Flush()
	}
}
