package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"serin.dev/serin/analysis/slo"
	"serin.dev/serin/analysis/verdict"
)

// sloCommand shows objectives: how they stand, and who spent their budgets.
func sloCommand(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("slo", flag.ContinueOnError)
	var r remote
	server, token := r.flags(f, "viewer's, or for an exception releaser's")
	asJSON := f.Bool("json", false, "print JSON")
	why := f.String("why", "", "of an exception, its `reason`")
	until := f.Duration("for", 24*time.Hour, "of an exception, its `length`")
	action := f.String("action", "allow", "of an exception, what it lets pass: `allow` or approval")
	rest, err := parseVerb(f, args, stderr, verb{"status", 0, ""}, verb{"who", 1, "NAME"}, verb{"except", 1, "NAME --why REASON [--for 24h] [--action allow|approval]"})
	if err != nil {
		return err
	}
	r.server, r.token = *server, *token
	if r.token == "" {
		r.token = os.Getenv("SERIN_TOKEN")
	}
	switch rest[0] {
	case "status":
		var list struct {
			SLOs []verdict.SLOState `json:"slos"`
		}
		if err := r.read(ctx, "/v1/slos", &list); err != nil {
			return err
		}
		if *asJSON {
			return json.NewEncoder(stdout).Encode(list.SLOs)
		}
		return printStates(stdout, list.SLOs)
	case "who":
		var w slo.Who
		if err := r.read(ctx, "/v1/slos/"+url.PathEscape(rest[1])+"/who", &w); err != nil {
			return err
		}
		if *asJSON {
			return json.NewEncoder(stdout).Encode(w)
		}
		return printWho(stdout, &w)
	case "except":
		passes, ok := map[string]string{"allow": "everything", "approval": "what is approved"}[*action]
		if !ok {
			fmt.Fprintf(stderr, "serin slo except: action: %q: want allow or approval\n", *action)
			return errUsage
		}
		body := map[string]any{"why": *why, "until": time.Now().Add(*until).UTC(), "action": *action}
		if _, err := r.send(ctx, http.MethodPost, "/v1/slos/"+url.PathEscape(rest[1])+"/exception", body); err != nil {
			return err
		}
		fmt.Fprintf(stdout, "the budget of %s lets %s pass for %v\n", rest[1], passes, *until)
		return nil
	}
	panic("BUG: no verb " + rest[0])
}

func printStates(w io.Writer, states []verdict.SLOState) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "OBJECTIVE\tGROUP\tTARGET\tBAD OF TOTAL\tBUDGET LEFT\tDATA\tACTION\tINCIDENT\t")
	for _, s := range states {
		incident := ""
		if s.Incident != nil {
			incident = s.Incident.Severity + ": " + strings.Join(s.Incident.Alerts, ", ")
		}
		fmt.Fprintf(t, "%s\t%s\t%.4g %%\t%d of %d\t%s\t%s\t%s\t%s\t\n", s.SLO, s.Group, 100*s.Target, s.Budget.Bad, s.Budget.Total, s.Budget.Left(), s.Data, s.Action, incident)
	}
	return t.Flush()
}

// printWho prints what each release, arm and stratum spent.
func printWho(w io.Writer, who *slo.Who) error {
	fmt.Fprintf(w, "%s: %d of %d %ss bad from %s to %s; the target allows %.4g\n", who.SLO, who.Bad, who.Total, who.Unit, who.From.Format(time.RFC3339), who.To.Format(time.RFC3339), who.Allowed)
	for _, part := range []struct {
		title  string
		shares []slo.Share
	}{{"RELEASE", who.Releases}, {"ARM", who.Arms}, {"STRATUM", who.Strata}} {
		if len(part.shares) == 0 {
			continue
		}
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintf(t, "\n%s\tBAD\tOF\tSPENT\tEXCESS\tINTERVAL\tCOMPARED\t\n", part.title)
		for _, s := range part.shares {
			fmt.Fprintf(t, "%s\t%d\t%d\t%s\t%s\t%s to %s\t%d\t\n", s.Name, s.Bad, s.Total, s.Spent.Percent(), figure(s.Excess), figure(s.Lo), figure(s.Hi), s.Compared)
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	return nil
}
