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
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"serin.dev/serin/alerting/webhook"
	"serin.dev/serin/analysis"
	"serin.dev/serin/internal/tenant"
)

// deliveries shows the outbox to the API.
type deliveries struct{ s *server }

// waiting is the outcome of what is not told yet.
const waiting = "waiting"

// List implements [api.Deliveries]: what waits, then what ended, newest first.
func (d deliveries) List(ctx context.Context, e *analysis.Engine, id tenant.ID) (any, error) {
	all := []analysis.Told{}
	for _, t := range d.s.targets {
		if t.Tenant != id.String() {
			continue
		}
		ms, err := outbox{e, d.s.targets, d.s.ladders}.Undelivered(ctx, t.Tenant, t.Name)
		if err != nil {
			return nil, err
		}
		for _, m := range ms {
			if on := (outbox{e, d.s.targets, d.s.ladders}).on(t.Tenant, t.Name); on > 0 {
				continue // which is listed as it was recorded: escalated
			}
			_, rollout := m.Key()
			all = append(all, analysis.Told{Rollout: rollout, At: m.Time, Delivery: analysis.Delivery{Target: t.Name, Message: m.ID, Outcome: waiting}})
		}
	}
	return append(all, e.Deliveries(id.String(), time.Now().Add(-keepTrying))...), nil
}

// Replay implements [api.Deliveries]. What is kept of gates and pages is no message
// that could be told again: it would stand there as waiting for good, and a gate's yes
// before the first step, which is given once, could be given twice.
func (d deliveries) Replay(ctx context.Context, e *analysis.Engine, id tenant.ID, message, who string) (bool, error) {
	for _, t := range e.Deliveries(id.String(), time.Now().Add(-keepTrying)) {
		told := slices.ContainsFunc(d.s.targets, func(of webhook.Target) bool { return of.Tenant == id.String() && of.Name == t.Target })
		if t.Message == message && told {
			return true, e.RecordDelivery(ctx, id.String(), t.Rollout, analysis.Delivery{Target: t.Target, Message: message, Outcome: analysis.Replay, Who: who})
		}
	}
	return false, nil
}

// deliveriesCommand lists what was told to webhooks within a day, and tells it
// again.
func deliveriesCommand(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("deliveries", flag.ContinueOnError)
	server := fs.String("server", envOr("SERIN_SERVER", "http://127.0.0.1:8711"), "`URL` of the server (SERIN_SERVER)")
	token := fs.String("token", "", "`token`, a releaser's for a replay; better given as SERIN_TOKEN")
	asJSON := fs.Bool("json", false, "print JSON")
	rest, err := parseVerb(fs, args, stderr, verb{"list", 0, ""}, verb{"replay", 1, "MESSAGE"})
	if err != nil {
		return err
	}
	if *token == "" {
		*token = os.Getenv("SERIN_TOKEN")
	}
	base := *server + "/v1/deliveries"
	switch rest[0] {
	case "list":
		raw, err := get(ctx, base, *token)
		if err != nil {
			return err
		}
		var list struct {
			Deliveries []analysis.Told `json:"deliveries"`
		}
		if err := json.Unmarshal(raw, &list); err != nil {
			return fmt.Errorf("read the server's answer: %w", err)
		}
		if *asJSON {
			return json.NewEncoder(stdout).Encode(list.Deliveries)
		}
		w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "AT\tROLLOUT\tTARGET\tSTEP\tOUTCOME\tTRIES\tSTATUS\tMESSAGE")
		for _, d := range list.Deliveries {
			step := "-"
			if d.Step > 0 {
				step = strconv.Itoa(d.Step)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\n", d.At.Format(time.RFC3339), d.Rollout, d.Target, step, d.Outcome, d.Tries, d.Status, d.Message)
		}
		return w.Flush()
	case "replay":
		if _, err := call(ctx, http.MethodPost, base+"/"+url.PathEscape(rest[1])+"/replay", *token, nil); err != nil {
			return err
		}
		fmt.Fprintln(stdout, "told again:", rest[1])
		return nil
	}
	panic("BUG: no verb " + rest[0])
}
