package main

import (
	"cmp"
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

	"serin.dev/serin/alerting/alert"
)

// alertsCommand lists a tenant's incidents.
func alertsCommand(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("alerts", flag.ContinueOnError)
	var r remote
	server, token := r.flags(f, "viewer's")
	asJSON := f.Bool("json", false, "print JSON")
	if _, err := parse(f, args, 0, stderr); err != nil {
		return err
	}
	r.to(*server, *token)
	var list struct {
		Alerts []alert.View `json:"alerts"`
	}
	if err := r.read(ctx, "/v1/alerts", &list); err != nil {
		return err
	}
	if *asJSON {
		return json.NewEncoder(stdout).Encode(list.Alerts)
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "STATE\tSEVERITY\tSLO\tCOHORT\tSINCE\tSILENCED\tSENTENCE")
	for _, v := range list.Alerts {
		since, severity := v.Opened, v.Severity
		if v.State == "resolved" {
			since, severity = v.Resolved, v.Last
		}
		for _, a := range v.Alerts {
			if v.State == "pending" && a.Phase == alert.Pending {
				since, severity = a.Since, a.Severity
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", v.State, severity, cmp.Or(v.SLO, v.Condition), orDash(cmp.Or(v.Cohort, v.Rollout)), since.Format(time.RFC3339), orDash(v.Silenced), v.Sentence)
	}
	return w.Flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// silenceCommand makes, lists and ends silences.
func silenceCommand(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("silence", flag.ContinueOnError)
	var r remote
	server, token := r.flags(f, "releaser's, or for the list viewer's")
	length := f.Duration("for", 0, "`length` of the silence, such as 2h")
	why := f.String("why", "", "`reason`, which is kept")
	asJSON := f.Bool("json", false, "print the list as JSON")
	rest, err := parseVerb(f, args, stderr, verb{"add", -1, "LABEL=VALUE... --for 2h --why REASON"}, verb{"list", 0, ""}, verb{"end", 1, "ID"})
	if err != nil {
		return err
	}
	r.to(*server, *token)
	switch rest[0] {
	case "add":
		if *length <= 0 {
			fmt.Fprintf(stderr, "serin silence add: for: %v: want a length of time, such as 2h\n", *length)
			return errUsage
		}
		if *why == "" {
			fmt.Fprintln(stderr, "serin silence add: why: \"\": want a reason")
			return errUsage
		}
		body := struct {
			Matchers []alert.Matcher `json:"matchers"`
			For      string          `json:"for"`
			Why      string          `json:"why"`
		}{For: length.String(), Why: *why}
		for _, text := range rest[1:] {
			m, err := alert.ParseMatcher(text)
			if err != nil {
				return err
			}
			body.Matchers = append(body.Matchers, m)
		}
		raw, err := r.send(ctx, http.MethodPost, "/v1/silences", body)
		if err != nil {
			return err
		}
		var s alert.Silence
		if err := json.Unmarshal(raw, &s); err != nil {
			return fmt.Errorf("read the server's answer: %w", err)
		}
		fmt.Fprintf(stdout, "%s until %s\n", s.ID, s.End.Format(time.RFC3339))
		return nil
	case "list":
		var list struct {
			Silences []alert.Silence `json:"silences"`
		}
		if err := r.read(ctx, "/v1/silences", &list); err != nil {
			return err
		}
		if *asJSON {
			return json.NewEncoder(stdout).Encode(list.Silences)
		}
		w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "ID\tSTART\tEND\tWHO\tMATCHERS\tWHY")
		for _, s := range list.Silences {
			var ms []string
			for _, m := range s.Matchers {
				ms = append(ms, m.Label+m.Op+m.Value)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", s.ID, s.Start.Format(time.RFC3339), s.End.Format(time.RFC3339), s.Who, strings.Join(ms, " "), s.Why)
		}
		return w.Flush()
	case "end":
		if _, err := call(ctx, http.MethodDelete, r.server+"/v1/silences/"+url.PathEscape(rest[1]), r.token, nil); err != nil {
			return err
		}
		fmt.Fprintln(stdout, "ended", rest[1])
		return nil
	}
	panic("BUG: no verb " + rest[0])
}

// to sets the server and the token, which is better kept out of the arguments.
func (r *remote) to(server, token string) {
	if r.server, r.token = server, token; token == "" {
		r.token = os.Getenv("SERIN_TOKEN")
	}
}
