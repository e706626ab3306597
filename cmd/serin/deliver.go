package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"serin.dev/serin/alerting/actuate"
	"serin.dev/serin/alerting/policy"
	"serin.dev/serin/alerting/webhook"
	"serin.dev/serin/analysis"
	"serin.dev/serin/analysis/verdict"
)

// targets returns the webhooks of all tenants; it reports all faults together.
func (c *config) targets() ([]webhook.Target, error) {
	var targets []webhook.Target
	var faults []error
	client := webhook.NewClient(c.WebhookAllow)
	for i, t := range c.Tenants {
		names := map[string]bool{}
		for j, w := range t.Webhooks {
			where := fmt.Sprintf("tenants[%d].webhooks[%d]", i, j)
			target := webhook.Target{Tenant: t.ID, Name: w.Name, URL: w.URL}
			var err error
			if target.Format, err = webhook.ParseFormat(w.Format); err != nil {
				faults = append(faults, fmt.Errorf("%s.%w", where, err))
			}
			texts := w.Secrets
			if w.Secret != "" {
				texts = append([]string{w.Secret}, texts...)
			}
			if len(texts) == 0 {
				faults = append(faults, fmt.Errorf("%s.secret: absent: want whsec_ and base64", where))
			}
			for _, text := range texts {
				secret, err := webhook.ParseSecret(text)
				if err != nil {
					faults = append(faults, fmt.Errorf("%s.secret: %w", where, err))
					continue
				}
				target.Secrets = append(target.Secrets, secret)
			}
			if w.Name == "" || names[w.Name] {
				faults = append(faults, fmt.Errorf("%s.name: %q: want a name that no other webhook of the tenant has", where, w.Name))
			}
			names[w.Name] = true
			if err := target.Check(); err != nil {
				faults = append(faults, fmt.Errorf("%s: %w", where, err))
			} else if err := webhook.CheckURL(w.URL, c.WebhookAllow); err != nil {
				faults = append(faults, fmt.Errorf("%s.url: %w", where, err))
			}
			targets = append(targets, target)
		}
		for j, tc := range t.Tools {
			where := fmt.Sprintf("tenants[%d].tools[%d]", i, j)
			tool, err := tc.tool(client)
			for _, fault := range unjoin(err) {
				faults = append(faults, fmt.Errorf("%s.%w", where, fault))
			}
			if tc.Name == "" || names[tc.Name] {
				faults = append(faults, fmt.Errorf("%s.name: %q: want a name that no other tool or webhook of the tenant has", where, tc.Name))
			}
			names[tc.Name] = true
			if err := webhook.CheckURL(tc.URL, c.WebhookAllow); err != nil {
				faults = append(faults, fmt.Errorf("%s.url: %w", where, err))
			}
			if err == nil {
				targets = append(targets, webhook.Target{Tenant: t.ID, Name: tc.Name, URL: tool.URL(), Teller: tool})
			}
		}
	}
	return targets, errors.Join(faults...)
}

// unjoin returns the errors that were joined.
func unjoin(err error) []error {
	var many interface{ Unwrap() []error }
	switch {
	case err == nil:
		return nil
	case errors.As(err, &many):
		return many.Unwrap()
	}
	return []error{err}
}

// tool returns the tool that is told verdicts by its own API. Secrets may stand
// in files, so that the configuration holds none.
func (c *toolConfig) tool(client webhook.Client) (*actuate.Tool, error) {
	s := actuate.Settings{Kind: c.Kind, URL: c.URL, Token: c.Token, Repository: c.Repository, Project: c.Project, Environment: c.Environment, Report: c.Report,
		Ref: c.Ref, Flag: c.Flag, Package: c.Package, Track: c.Track, KeyID: c.KeyID, Issuer: c.Issuer}
	var faults []error
	for _, f := range []struct {
		name, path string
		put        func([]byte)
	}{{"token_file", c.TokenFile, func(b []byte) { s.Token = strings.TrimSpace(string(b)) }}, {"key_file", c.KeyFile, func(b []byte) { s.Key = b }}} {
		if f.path == "" {
			continue
		}
		text, err := os.ReadFile(f.path)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", f.name, err))
			continue
		}
		f.put(text)
	}
	if c.Token != "" && c.TokenFile != "" {
		faults = append(faults, errors.New("token: given beside token_file: want one of both"))
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return actuate.New(s, client, nil)
}

// keepTrying is how long a rollback is worth telling.
const keepTrying = 24 * time.Hour

// outbox shows the analysis' log of verdicts as messages.
type outbox struct {
	engine  *analysis.Engine
	targets []webhook.Target
	ladders map[string]policy.Ladder // by tenant
}

// messageID names the telling of a verdict to one target; rollouts are never
// named twice, so it is unique for good. It has no dot, which Standard Webhooks
// forbids and a rollout's name may have.
func messageID(target string, v *verdict.Verdict) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%s\n%d", v.Tenant, target, v.Rollout, v.Number))
	return "verdict_" + hex.EncodeToString(sum[:16])
}

// Undelivered implements [webhook.Outbox].
func (o outbox) Undelivered(_ context.Context, tenant, target string) ([]webhook.Message, error) {
	var ms []webhook.Message
	format := webhook.Standard
	for _, t := range o.targets {
		if t.Tenant == tenant && t.Name == target {
			format = t.Format
		}
	}
	message := func(v *verdict.Verdict) {
		until := v.ValidUntil
		if v.Decision == verdict.Rollback {
			until = v.IssuedAt.Add(keepTrying)
		}
		ms = append(ms, webhook.Message{ID: messageID(target, v), Stream: tenant + "/" + v.Rollout, Time: v.IssuedAt,
			Number: v.Number, Decision: v.Decision, Verdict: v, ExpiresAt: until,
			Make: func() ([]byte, error) { return webhook.Payload(format, messageID(target, v), v) }})
	}
	if o.on(tenant, target) > 0 { // told of what escalates to it, and of nothing else
		for _, r := range o.engine.RolledBack(tenant, time.Now().Add(-keepTrying)) {
			v := r.First()
			if told, ok := o.engine.Report(tenant, target, messageID(target, v)); !ok || told.Outcome != analysis.Escalated && told.Outcome != analysis.Replay {
				continue
			}
			message(v)
		}
		return ms, nil
	}
	worth := func(prev, v *verdict.Verdict) string {
		if !policy.Worth(prev, v) {
			return ""
		}
		return messageID(target, v)
	}
	for _, g := range o.engine.Undelivered(tenant, target, time.Now().Add(-keepTrying), worth) {
		message(&g.Verdict)
	}
	return ms, nil
}

// Record implements [webhook.Outbox].
func (o outbox) Record(ctx context.Context, tenant, target string, m webhook.Message, r webhook.Report) error {
	_, rollout := m.Key()
	d := analysis.Delivery{Target: target, Message: m.ID, Outcome: string(r.Outcome), Tries: r.Tries, Status: r.Status, Step: o.on(tenant, target)}
	if m.Decision == verdict.Rollback {
		d.Rollback = m.Number
	}
	return o.engine.RecordDelivery(ctx, tenant, rollout, d)
}

// Overtaken implements [webhook.Outbox].
func (o outbox) Overtaken(tenant, target string, m webhook.Message) bool {
	_, rollout := m.Key()
	if o.on(tenant, target) > 0 {
		r, stands := o.engine.Stands(tenant, rollout)
		told, _ := o.engine.Report(tenant, target, m.ID)
		return !stands || told.Outcome != analysis.Replay && o.acknowledged(tenant, &r)
	}
	return policy.Overtaken(m.Decision, m.Number, o.engine.Newest(tenant, rollout))
}

// Changed implements [webhook.Outbox].
func (o outbox) Changed() <-chan struct{} { return o.engine.Changed() }
