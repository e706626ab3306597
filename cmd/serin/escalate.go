package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"serin.dev/serin/alerting/policy"
	"serin.dev/serin/alerting/webhook"
	"serin.dev/serin/analysis"
	"serin.dev/serin/analysis/verdict"
)

// escalationConfig is the ladder of a tenant's rollbacks (docs/delivery/escalation.md).
type escalationConfig struct {
	AcknowledgedBy []string     `yaml:"acknowledged_by,omitempty"`
	Steps          []stepConfig `yaml:"steps,omitempty"`
}

type stepConfig struct {
	After time.Duration `yaml:"after"`
	To    string        `yaml:"to,omitempty"`   // a webhook or a tool
	Page  []string      `yaml:"page,omitempty"` // targets of alerts
}

// ladders returns the ladders of the tenants that have one; it reports all faults
// together.
func (c *config) ladders() (map[string]policy.Ladder, error) {
	all := map[string]policy.Ladder{}
	var faults []error
	for i, t := range c.Tenants {
		l := policy.Ladder{By: t.Escalation.AcknowledgedBy}
		for _, s := range t.Escalation.Steps {
			l.Steps = append(l.Steps, policy.Step(s))
		}
		var receivers, alerts []string
		for _, w := range t.Webhooks {
			receivers = append(receivers, w.Name)
		}
		for _, tool := range t.Tools {
			receivers = append(receivers, tool.Name)
		}
		for _, a := range t.Alerts {
			alerts = append(alerts, a.Name)
		}
		for _, name := range receivers {
			if name == policy.PageTarget || name == policy.GateTarget {
				faults = append(faults, fmt.Errorf("tenants[%d]: a webhook or tool %q: want another name, which deliveries do not use", i, name))
			}
		}
		for _, fault := range unjoin(l.Check(receivers, alerts)) {
			faults = append(faults, fmt.Errorf("tenants[%d].escalation.%w", i, fault))
		}
		if len(l.Steps) > 0 {
			all[t.ID] = l
		}
	}
	return all, errors.Join(faults...)
}

// on returns the step of its tenant's ladder that a target is on; 0: none.
func (o outbox) on(tenant, target string) int {
	l := o.ladders[tenant]
	return l.On(target)
}

// acknowledged reports whether a receiver whose 2xx counts took a rollback.
func (o outbox) acknowledged(tenant string, r *analysis.RolledBack) bool {
	l := o.ladders[tenant]
	took := func(target string, v *verdict.Verdict) bool {
		told, ok := o.engine.Report(tenant, target, messageID(target, v))
		return ok && told.Outcome == string(webhook.Delivered) && l.Acknowledges(target)
	}
	for i := range r.Verdicts {
		for _, t := range o.targets {
			if t.Tenant == tenant && took(t.Name, &r.Verdicts[i]) {
				return true
			}
		}
		if v := &r.Verdicts[i]; l.Acknowledges(policy.GateTarget) && len(l.By) > 0 && o.engine.Asked(tenant, v.Rollout, v.Number) {
			return true
		}
	}
	return false
}

// escalateEvery is how often ladders are looked at where nothing else happens.
const escalateEvery = time.Second

// escalate has rollbacks that nobody acknowledged climb their ladders, until ctx
// ends. That a step has begun is recorded before its target is told of anything:
// after a restart the climb goes on where it stood.
func (s *server) escalate(ctx context.Context, e *analysis.Engine) error {
	if len(s.ladders) == 0 {
		return nil
	}
	o := outbox{e, s.targets, s.ladders}
	for {
		changed := e.Changed()
		for tenant := range s.ladders {
			if err := s.climb(ctx, o, tenant, time.Now()); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-time.After(escalateEvery):
		}
	}
}

// climb takes the steps of one tenant's rollbacks that are due.
func (s *server) climb(ctx context.Context, o outbox, tenant string, now time.Time) error {
	l := o.ladders[tenant]
	for _, r := range o.engine.RolledBack(tenant, now.Add(-keepTrying)) {
		first := r.First()
		began := func(step int) (time.Time, bool) {
			return o.engine.Began(tenant, first.Rollout, first.Number, l.Steps[step-1].Target())
		}
		step, at := l.Due(first.IssuedAt, began)
		if step == 0 || at.After(now) || o.acknowledged(tenant, &r) {
			continue
		}
		target := l.Steps[step-1].Target()
		s.logger.Error("nobody acknowledged a rollback, and it escalates", "tenant", tenant, "rollout", first.Rollout, "step", step, "target", target, "given", first.IssuedAt)
		metrics.GetOrCreateCounter(fmt.Sprintf("serin_rollback_escalations_total{tenant=%q,target=%q}", tenant, target)).Inc()
		d := analysis.Delivery{Target: target, Message: messageID(target, first), Outcome: analysis.Escalated, Rollback: first.Number, Step: step}
		if err := o.engine.RecordDelivery(ctx, tenant, first.Rollout, d); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
	return nil
}

// unacknowledged returns the rollbacks that climbed up to the step that pages, and
// that still nobody acknowledged.
func (s *server) unacknowledged(e *analysis.Engine) (all []verdict.Condition) {
	o := outbox{e, s.targets, s.ladders}
	for tenant, l := range s.ladders {
		step := l.On(policy.PageTarget)
		if step == 0 {
			continue
		}
		for _, r := range e.RolledBack(tenant, time.Now().Add(-keepTrying)) {
			first := r.First()
			if _, began := e.Began(tenant, first.Rollout, first.Number, policy.PageTarget); !began || o.acknowledged(tenant, &r) {
				continue
			}
			all = append(all, verdict.Condition{Tenant: tenant, Name: verdict.RollbackUnacknowledged, Rollout: first.Rollout, App: first.App, Release: first.Canary,
				Severity: verdict.SeverityPage, Targets: l.Steps[step-1].Page,
				Sentence: fmt.Sprintf("No receiver has acknowledged the rollback of %s since %s: roll it back by hand. %s", first.Change, first.IssuedAt.Format(time.RFC3339), first.Sentence)})
		}
	}
	return all
}
