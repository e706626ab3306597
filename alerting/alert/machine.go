package alert

import (
	"math"
	"slices"
	"time"

	"serin.dev/serin/analysis/verdict"
)

// The forms of alerts that an objective's file does not name.
const (
	formNoData    = "no_data"   // missing data; the name is what is missing
	formCondition = "condition" // of a rollout; the name is the condition's
)

// Observe takes in an evaluation. One that is not newer than the last one of its
// objective and group is dropped: after a restart they may come again.
func (b *Book) Observe(s *verdict.SLOState) {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := Key{Tenant: s.Tenant, SLO: s.SLO, Cohort: s.Group}
	in := b.incidents[k]
	if in == nil {
		if !noteworthy(s) {
			return // the way of nearly all, which must cost nothing
		}
		in = &Incident{Key: k}
		b.incidents[k] = in
	} else if !s.At.After(in.At) {
		return
	}
	in.Service, in.App, in.At, in.DataThrough, in.Completeness, in.Data = s.Service, s.App, s.At, s.DataThrough, s.Completeness, s.Data
	in.Target, in.Remaining, in.Sentence = s.Target, s.Budget.Remaining, s.Sentence
	if s.GroupBy == "release" {
		in.Release = s.Group
	}
	all := burns(s, b.policy.NoData)
	for i := range in.Alerts {
		a := &in.Alerts[i]
		if !slices.ContainsFunc(all, func(u verdict.Burn) bool { return u.Name == a.Name }) {
			a.idle(s.At) // the objective has it no more
		}
	}
	for _, u := range all {
		in.step(u, signOf(s, &u, b.policy.Clear), b.policy)
	}
	in.settle(s.At)
}

// Hold takes in all conditions that hold at a time. Those that are open and not
// among them end at once: who says that they do has looked for long enough.
func (b *Book) Hold(conditions []verdict.Condition, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at = at.UTC()
	held := map[Key]bool{}
	for i := range conditions {
		c := &conditions[i]
		k := Key{Tenant: c.Tenant, Condition: c.Name, Rollout: c.Rollout}
		held[k] = true
		in := b.incidents[k]
		if in == nil {
			in = &Incident{Key: k, Completeness: 1, Remaining: verdict.Unknown}
			b.incidents[k] = in
		}
		in.App, in.Release, in.Sentence, in.At, in.DataThrough = c.App, c.Release, c.Sentence, at, at
		in.step(verdict.Burn{Name: c.Name, Severity: c.Severity, Form: formCondition, LongRate: verdict.Unknown, ShortRate: verdict.Unknown, Burning: true,
			WhenBreaching: true, WhenResolved: true, Targets: c.Targets}, burning, b.policy)
		in.settle(at)
	}
	for k, in := range b.incidents {
		if k.Condition != "" && !held[k] {
			in.end(at)
		}
	}
}

// Keep ends the incidents of objectives that there are no more at a time.
func (b *Book) Keep(there func(tenant, slo string) bool, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for k, in := range b.incidents {
		if k.Condition == "" && in.State() != "resolved" && !there(k.Tenant, k.SLO) {
			in.end(at.UTC())
		}
	}
}

// end ends all alerts of an incident.
func (in *Incident) end(at time.Time) {
	for i := range in.Alerts {
		in.Alerts[i].idle(at)
	}
	in.settle(at)
}

// noteworthy reports whether an evaluation begins anything.
func noteworthy(s *verdict.SLOState) bool {
	for i := range s.Alerts {
		a := &s.Alerts[i]
		if a.Burning && a.WhenBreaching || a.WhenNoData && (s.Data == verdict.NoTraffic || s.Data == verdict.Uninstrumented) {
			return true
		}
	}
	return false
}

// burns returns the alerts of which something is to be told, with those on
// missing data: one for each kind, of the highest severity that asks for it.
func burns(s *verdict.SLOState, after time.Duration) []verdict.Burn {
	var all []verdict.Burn
	var data verdict.Burn
	for _, a := range s.Alerts {
		if a.WhenBreaching {
			all = append(all, a)
		}
		if !a.WhenNoData {
			continue
		}
		if verdict.SeverityRank(a.Severity) > verdict.SeverityRank(data.Severity) {
			data.Severity = a.Severity
		}
		data.WhenNoData, data.WhenResolved = true, data.WhenResolved || a.WhenResolved
		data.Targets = append(data.Targets, a.Targets...)
	}
	if data.WhenNoData {
		for _, d := range []verdict.Data{verdict.NoTraffic, verdict.Uninstrumented} {
			u := data
			u.Name, u.Form, u.After, u.Burning = d.String(), formNoData, after.String(), s.Data == d
			u.LongRate, u.ShortRate = verdict.Bound(math.NaN()), verdict.Bound(math.NaN())
			all = append(all, u)
		}
	}
	return all
}

// sign is what an evaluation says of an alert.
type sign int

const (
	silent sign = iota // nothing was counted that could tell
	calm
	warm // it neither burns nor is it calm
	burning
)

// signOf reads an evaluation. Of two windows the short one governs the end; where
// nothing was counted in it, the long one.
func signOf(s *verdict.SLOState, a *verdict.Burn, clear float64) sign {
	switch {
	case a.Burning:
		return burning
	case s.Data == verdict.PipelineFault:
		return silent // the counts stand still, and say nothing of now
	case a.Form == formNoData:
		return calm
	case s.Data != verdict.DataOK:
		return silent
	case a.Short == "":
		return calm // a sequential test keeps its evidence; that it does not burn says that the failures are over
	}
	rate := float64(a.ShortRate)
	if math.IsNaN(rate) {
		rate = float64(a.LongRate)
	}
	switch {
	case math.IsNaN(rate):
		return silent
	case rate < clear*a.Threshold:
		return calm
	}
	return warm
}

// step moves one alert.
func (in *Incident) step(u verdict.Burn, is sign, p Policy) {
	i := slices.IndexFunc(in.Alerts, func(a Alert) bool { return a.Name == u.Name })
	if i < 0 {
		if is != burning {
			return
		}
		i = len(in.Alerts)
		in.Alerts = append(in.Alerts, Alert{})
	}
	a, at := &in.Alerts[i], in.At
	a.Burn = u
	switch is {
	case burning:
		a.Burned, a.Calm = at, 0
	case calm:
		a.Calm++
	case warm:
		a.Calm = 0
	}
	switch a.Phase {
	case Idle:
		if is != burning {
			return
		}
		a.Phase, a.Since = Pending, at
		fallthrough
	case Pending:
		after, err := time.ParseDuration(u.After)
		if err != nil {
			after = 0 // as where it is absent
		}
		switch {
		case is == silent && at.Sub(a.Burned) < p.Forget:
		case is != burning:
			a.Phase, a.Since = Idle, at
		case at.Sub(a.Since) >= after && in.mayOpen(a, at, p.Reopen):
			a.Phase, a.Since = Firing, at
		}
	case Firing:
		if a.Calm >= p.Evaluations && at.Sub(a.Burned) >= p.KeepFiring || at.Sub(a.Burned) >= p.Forget {
			a.idle(at)
		}
	}
}

// mayOpen bounds how often there is something to tell.
func (in *Incident) mayOpen(a *Alert, at time.Time, reopen time.Duration) bool {
	if !a.Ended.IsZero() && at.Sub(a.Ended) < reopen {
		return false
	}
	return in.Severity != "" || in.Number == 0 || at.Sub(in.Resolved) >= reopen || verdict.SeverityRank(a.Severity) > verdict.SeverityRank(in.Last)
}

// idle ends an alert.
func (a *Alert) idle(at time.Time) {
	if a.Phase == Firing {
		a.Ended = at
	}
	if a.Phase != Idle {
		a.Phase, a.Since, a.Calm = Idle, at, 0
	}
	a.Burning = false
}

// settle makes the incident what its alerts are.
func (in *Incident) settle(at time.Time) {
	severity := ""
	for _, a := range in.firing() {
		if verdict.SeverityRank(a.Severity) > verdict.SeverityRank(severity) {
			severity = a.Severity
		}
	}
	switch {
	case in.Severity == "" && severity != "":
		in.Number++
		in.Opened = at
	case in.Severity != "" && severity == "":
		in.Resolved = at
	}
	if in.Severity = severity; severity != "" {
		in.Last = severity
	}
}
