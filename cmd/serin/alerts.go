package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"serin.dev/serin/alerting/alert"
	"serin.dev/serin/alerting/alertmanager"
	"serin.dev/serin/alerting/webhook"
	"serin.dev/serin/analysis/verdict"
	"serin.dev/serin/internal/store/segment"
	"serin.dev/serin/internal/tenant"
)

// evaluator evaluates objectives: fn is called with the state of each, of all
// tenants, which it must not keep.
type evaluator interface {
	EvaluateSLOs(ctx context.Context, fn func(*verdict.SLOState)) error
	// Conditions returns the conditions of rollouts that hold. Where it is complete,
	// what is not among them, or was not evaluated, is over.
	Conditions() (all []verdict.Condition, complete bool)
}

// alerts keeps the book of alerts in a file of its own, and tells what is in it.
type alerts struct {
	book    *alert.Book
	targets []alertTarget
	path    string
	every   time.Duration
	began   time.Time
	logger  *slog.Logger

	// order keeps what is new from being told before it is kept.
	order sync.RWMutex

	mu      sync.Mutex
	kept    []byte        // what the file holds
	changed chan struct{} // closed when there may be something to tell
}

// The rhythm of alerts.
const (
	evaluateEvery  = 15 * time.Second
	managerTimeout = 10 * time.Second
	managerRetry   = 5 * time.Second
	// aliveFor is for how long an evaluation stands for a server that evaluates.
	aliveFor = 2 * time.Minute
)

// openAlerts reads the book. A file that cannot be read is put aside: what is open
// is found again by the next evaluation, and beacons must be taken meanwhile.
func openAlerts(c *config, logger *slog.Logger) (*alerts, error) {
	targets, err := c.alertTargets()
	if err != nil {
		return nil, err
	}
	plain := make([]alert.Target, len(targets))
	for i, t := range targets {
		plain[i] = t.Target
	}
	a := &alerts{book: alert.New(c.Alerting.policy(), plain), targets: targets, path: c.path("alerts.json"), every: c.Alerting.Every, began: time.Now(), logger: logger, changed: make(chan struct{})}
	if a.every == 0 {
		a.every = evaluateEvery
	}
	data, err := os.ReadFile(a.path)
	if errors.Is(err, fs.ErrNotExist) {
		return a, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read alerts: %w", err)
	}
	if err := a.book.Restore(data); err != nil {
		aside := a.path + ".damaged"
		logger.Error("the file of alerts cannot be read and is put aside: silences are lost, and what is open is told again", "error", err, "file", aside)
		if err := os.Rename(a.path, aside); err != nil {
			return nil, fmt.Errorf("put aside: %w", err)
		}
		return a, nil
	}
	a.kept = data
	return a, nil
}

// save keeps the book, and wakes who tells, even where it could not be kept: to be
// told twice after a restart is better than not at all.
func (a *alerts) save() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	defer func() {
		close(a.changed)
		a.changed = make(chan struct{})
	}()
	data, err := a.book.Snapshot()
	if err != nil || bytes.Equal(data, a.kept) {
		return err
	}
	if err := segment.WriteFile(a.path, data); err != nil {
		return err
	}
	a.kept = data
	return nil
}

// evaluate takes in the state of all objectives, again and again, until ctx ends.
// A round that fails is not told of: the watchdog falls silent where they go on
// failing.
func (a *alerts) evaluate(ctx context.Context, ev evaluator) {
	t := time.NewTicker(a.every)
	defer t.Stop()
	for {
		if err := a.round(ctx, ev); err != nil && ctx.Err() == nil {
			metrics.GetOrCreateCounter("serin_alert_failed_evaluations_total").Inc()
			a.logger.Error("objectives were not evaluated, and nobody is alerted", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (a *alerts) round(ctx context.Context, ev evaluator) error {
	ctx, cancel := context.WithTimeout(ctx, a.every)
	defer cancel()
	conditions, complete := ev.Conditions()
	seen := map[[2]string]bool{}
	err := ev.EvaluateSLOs(ctx, func(s *verdict.SLOState) {
		seen[[2]string{s.Tenant, s.SLO}] = true
		a.book.Observe(s)
	})
	if err != nil {
		return err
	}
	if complete {
		a.book.Hold(conditions, time.Now())
		a.book.Keep(func(tenant, slo string) bool { return seen[[2]string{tenant, slo}] }, time.Now())
	}
	a.order.Lock()
	news := a.book.Tell(time.Now())
	if err := a.save(); err != nil {
		a.logger.Error("alerts cannot be kept", "error", err)
	}
	a.order.Unlock()
	for _, n := range news {
		for _, it := range n.Items {
			a.logger.Info("incident", "event", it.Event, "tenant", it.Tenant, "about", it.Subject(), "severity", it.Severity, "target", n.Target)
			metrics.GetOrCreateCounter(fmt.Sprintf("serin_alert_events_total{tenant=%q,target=%q,event=%q}", it.Tenant, n.Target, it.Event)).Inc()
		}
	}
	return nil
}

// run tells what there is to tell, until ctx ends; it needs no analysis.
func (a *alerts) run(ctx context.Context, o webhook.Options) error {
	for _, t := range a.targets {
		if t.manager == nil {
			o.Targets = append(o.Targets, t.messages)
		}
	}
	o.Outbox = alertOutbox{a}
	deliverer, err := webhook.New(o)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, t := range a.targets {
		if t.manager != nil {
			wg.Go(func() { a.manager(ctx, t) })
		}
		if t.watchdog > 0 {
			wg.Go(func() { a.watchdog(ctx, t, webhook.NewClient(o.Allow)) })
		}
	}
	return deliverer.Run(ctx)
}

// manager tells an Alertmanager what is so, until ctx ends.
func (a *alerts) manager(ctx context.Context, t alertTarget) {
	count := func(result string) {
		metrics.GetOrCreateCounter(fmt.Sprintf("serin_alertmanager_sends_total{tenant=%q,target=%q,result=%q}", t.Tenant, t.Name, result)).Inc()
	}
	failed := false
	for {
		a.mu.Lock()
		changed := a.changed
		a.mu.Unlock()
		now := time.Now()
		a.order.RLock()
		items := a.book.Level(t.Tenant, t.Name)
		a.order.RUnlock()
		all := t.manager.Alerts(items, now)
		if now.Sub(a.book.Told()) < aliveFor {
			all = append(all, t.manager.Watchdog(a.began, now))
		}
		sendCtx, cancel := context.WithTimeout(ctx, managerTimeout)
		err := t.manager.Send(sendCtx, all)
		cancel()
		wait := alertmanager.Resend
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			count("ok")
			if failed {
				a.logger.Info("the Alertmanager takes alerts again", "tenant", t.Tenant, "target", t.Name)
			}
			failed = false
		default:
			count("failed")
			if !failed {
				a.logger.Error("the Alertmanager was not told; it is tried again", "tenant", t.Tenant, "target", t.Name, "error", err)
			}
			failed, wait, changed = true, managerRetry, nil
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-time.After(wait):
		}
	}
}

// watchdog tells a webhook, again and again, that objectives are evaluated: whoever
// hears it no more knows that they are not, or that nothing arrives. One that is not
// taken is not tried again before the next one: a late one would say what is over.
func (a *alerts) watchdog(ctx context.Context, t alertTarget, client webhook.Client) {
	for n := uint64(1); ; n++ {
		if now := time.Now(); now.Sub(a.book.Told()) < aliveFor {
			m, err := alert.Watchdog(t.Tenant, t.Name, n, a.began, now, t.watchdog)
			if err == nil {
				sendCtx, cancel := context.WithTimeout(ctx, managerTimeout)
				var answer webhook.Answer
				answer, err = t.messages.Try(sendCtx, client, now, webhook.Message{ID: m.ID, Body: m.Body})
				cancel()
				if err == nil && answer.Status/100 != 2 {
					err = fmt.Errorf("status %d", answer.Status)
				}
			}
			if ctx.Err() != nil {
				return
			}
			result := "ok"
			if err != nil {
				result = "failed"
				a.logger.Warn("a watchdog was not told", "tenant", t.Tenant, "target", t.Name, "error", err)
			}
			metrics.GetOrCreateCounter(fmt.Sprintf("serin_watchdog_sends_total{tenant=%q,target=%q,result=%q}", t.Tenant, t.Name, result)).Inc()
		}
		wait := t.watchdog
		if a.book.Told().IsZero() { // nothing was evaluated since the start
			wait = min(wait, time.Second)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// alertOutbox shows the book's outbox to the deliverer.
type alertOutbox struct{ a *alerts }

// Undelivered implements [webhook.Outbox].
func (o alertOutbox) Undelivered(_ context.Context, tenant, target string) ([]webhook.Message, error) {
	name := strings.TrimPrefix(target, alertPrefix)
	i := slices.IndexFunc(o.a.targets, func(t alertTarget) bool { return t.Tenant == tenant && t.Name == name })
	var ms []webhook.Message
	o.a.order.RLock()
	waiting := o.a.book.Waiting(tenant, name)
	o.a.order.RUnlock()
	for _, n := range waiting {
		body, err := o.a.targets[i].body(&n)
		if err != nil {
			return nil, err
		}
		ms = append(ms, webhook.Message{ID: n.ID, Stream: tenant + "/" + n.Stream, Time: n.At, ExpiresAt: n.At.Add(alert.Keep), Body: body})
	}
	return ms, nil
}

// Record implements [webhook.Outbox]. A book that cannot be kept is no reason to
// tell nobody: after a restart the message is told once more.
func (o alertOutbox) Record(_ context.Context, _, _ string, m webhook.Message, r webhook.Report) error {
	if r.Outcome == webhook.Expired {
		o.a.book.Missed(m.ID)
	} else {
		o.a.book.Done(m.ID)
	}
	if err := o.a.save(); err != nil {
		o.a.logger.Error("alerts cannot be kept", "error", err)
	}
	return nil
}

// Overtaken implements [webhook.Outbox].
func (o alertOutbox) Overtaken(tenant, target string, m webhook.Message) bool {
	return o.a.book.Overtaken(tenant, strings.TrimPrefix(target, alertPrefix), m.ID)
}

// Changed implements [webhook.Outbox].
func (o alertOutbox) Changed() <-chan struct{} {
	o.a.mu.Lock()
	defer o.a.mu.Unlock()
	return o.a.changed
}

// Incidents implements [api.Alerts].
func (a *alerts) Incidents(id tenant.ID) []alert.View {
	return a.book.Incidents(id.String(), time.Now())
}

// Silences implements [api.Alerts].
func (a *alerts) Silences(id tenant.ID) []alert.Silence { return a.book.Silences(id.String()) }

// Silence implements [api.Alerts].
func (a *alerts) Silence(_ context.Context, id tenant.ID, s alert.Silence) (alert.Silence, error) {
	s.Tenant = id.String()
	s, err := a.book.Silence(s, time.Now())
	if err != nil {
		return s, err
	}
	a.logger.Info("silence", "tenant", s.Tenant, "id", s.ID, "who", s.Who, "why", s.Why, "start", s.Start, "end", s.End)
	return s, a.save()
}

// Unsilence implements [api.Alerts].
func (a *alerts) Unsilence(_ context.Context, id tenant.ID, silence, who string) (alert.Silence, bool, error) {
	s, ok := a.book.Unsilence(id.String(), silence, who, time.Now())
	if !ok {
		return s, false, nil
	}
	a.logger.Info("silence ended", "tenant", s.Tenant, "id", s.ID, "who", who)
	return s, true, a.save()
}
