package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"serin.dev/serin/analysis/verdict"
)

// gateAnswer is what one of those that are asked says.
type gateAnswer struct {
	decision verdict.Decision
	sentence string
}

// gateCommand asks whether a pipeline may go on: by a rollout's verdict, a gate's URL,
// and the budgets of objectives. The one that allows least decides.
func gateCommand(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("gate", flag.ContinueOnError)
	var r remote
	server, token := r.flags(f, "viewer's")
	var rollouts, objectives, urls []string
	list := func(name, help string, to *[]string) {
		f.Func(name, help, func(s string) error { *to = append(*to, s); return nil })
	}
	list("rollout", "`id` of a rollout; may be given again", &rollouts)
	list("slo", "`name` of an objective whose budget must allow it; may be given again", &objectives)
	list("url", "`URL` of a gate, which needs no token (POST /v1/rollouts/ID/gate); may be given again", &urls)
	wait := f.Bool("wait", false, "ask again while the answer is hold")
	timeout := f.Duration("timeout", time.Hour, "longest `time` to wait")
	every := f.Duration("every", 10*time.Second, "`time` between two questions, 100ms or more")
	f.Usage = func() {
		fmt.Fprintln(stderr, "usage: serin gate [--rollout ID] [--slo NAME] [--url URL] [--wait]\nexit status: 0 go on, 10 hold, 20 roll back; 1 there is no answer, 2 wrong usage: treat both as hold")
		f.PrintDefaults()
	}
	if _, err := parse(f, args, 0, stderr); err != nil {
		return err
	}
	if len(rollouts)+len(objectives)+len(urls) == 0 {
		fmt.Fprintln(stderr, "serin gate: rollout, slo, url: none: want at least one")
		f.Usage()
		return errUsage
	}
	if *every < 100*time.Millisecond {
		fmt.Fprintf(stderr, "serin gate: every: %v: want 100ms or more\n", *every)
		return errUsage
	}
	r.server, r.token = *server, *token
	if r.token == "" {
		r.token = os.Getenv("SERIN_TOKEN")
	}
	if *timeout <= 0 {
		fmt.Fprintf(stderr, "serin gate: timeout: %v: want above 0\n", *timeout)
		return errUsage
	}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	ask := func() (all []gateAnswer, err error) {
		var faults []error
		each := func(what string, names []string, one func(context.Context, string) (gateAnswer, error)) {
			for i, name := range names {
				a, err := one(ctx, name)
				if what == "gate" { // its URL is a secret
					name = fmt.Sprint(i + 1)
				}
				if err != nil {
					faults = append(faults, fmt.Errorf("%s %s: %w", what, name, err))
					continue
				}
				all = append(all, a)
			}
		}
		each("rollout", rollouts, r.gateRollout)
		each("objective", objectives, r.gateObjective)
		each("gate", urls, r.gateURL)
		return all, errors.Join(faults...)
	}
	var last []gateAnswer
	for {
		all, err := ask()
		switch {
		case err == nil:
			last = all
			if d := least(all); d != verdict.Hold || !*wait {
				return gateExit(stdout, all)
			}
		case ctx.Err() != nil && last != nil:
		case !*wait || slices.ContainsFunc(unjoin(err), func(one error) bool { return !temporary(one) }) || ctx.Err() != nil:
			return err
		default:
			fmt.Fprintf(stderr, "serin gate: %v; asking again\n", err)
		}
		select {
		case <-ctx.Done():
			if last == nil {
				return fmt.Errorf("no answer within %v: %w", *timeout, err)
			}
			return gateExit(stdout, last)
		case <-time.After(*every):
		}
	}
}

// least returns what those that are asked allow together.
func least(all []gateAnswer) verdict.Decision {
	d := verdict.Promote
	for _, a := range all {
		switch {
		case a.decision == verdict.Rollback:
			return verdict.Rollback
		case a.decision == verdict.Hold:
			d = verdict.Hold
		}
	}
	return d
}

func gateExit(w io.Writer, all []gateAnswer) error {
	d := least(all)
	fmt.Fprintln(w, d)
	for _, a := range all {
		fmt.Fprintf(w, "%s: %s\n", a.decision, a.sentence)
	}
	switch d {
	case verdict.Promote:
		return nil
	case verdict.Rollback:
		return exitRollback
	}
	return exitHold
}

func (r remote) gateRollout(ctx context.Context, id string) (gateAnswer, error) {
	var v verdict.Verdict
	if err := r.read(ctx, "/v1/rollouts/"+url.PathEscape(id)+"/verdict", &v); err != nil {
		return gateAnswer{}, err
	}
	s := verdict.Stand(&v, false, time.Now())
	return gateAnswer{s.Decision(), s.Sentence()}, nil
}

// gateObjective goes on where the budget allows it without anybody's approval.
func (r remote) gateObjective(ctx context.Context, name string) (gateAnswer, error) {
	var o struct{ Action verdict.Action }
	if err := r.read(ctx, "/v1/slos/"+url.PathEscape(name), &o); err != nil {
		return gateAnswer{}, err
	}
	a := gateAnswer{verdict.Hold, fmt.Sprintf("the budget of %s says %s", name, o.Action)}
	if o.Action == verdict.Allow {
		a.decision = verdict.Promote
	}
	return a, nil
}

func (r remote) gateURL(ctx context.Context, u string) (gateAnswer, error) {
	raw, err := get(ctx, u, "")
	var status *statusError
	switch {
	case errors.As(err, &status):
		return gateAnswer{}, err
	case errors.Is(err, errURL): // without it, as below
		return gateAnswer{}, fmt.Errorf("the gate: %w", errURL)
	case err != nil: // which has the URL in it
		return gateAnswer{}, errors.New(strings.ReplaceAll(err.Error(), u, "the gate"))
	}
	var g struct {
		Decision verdict.Decision
		Sentence string
		State    string
	}
	if err := json.Unmarshal(raw, &g); err != nil || g.State == "" {
		return gateAnswer{}, fmt.Errorf("the answer is none of a gate: %v", err)
	}
	return gateAnswer{g.Decision, g.Sentence}, nil
}
