package slo

import (
	"fmt"
	"math"
	"time"

	"serin.dev/serin/analysis/verdict"
)

// evidenceAlpha is the chance that an alert's evidence may have under a service
// that spends its budget just as planned: with it, and looked at every minute, an
// objective at 10 events an hour is paged for falsely less than once a year
// (TestFalsePages).
const evidenceAlpha = 1e-6

// mostNull is the largest share of bad units that evidence is held against.
const mostNull = 1 - 1e-9

// What is usual is asked of the same time in the weeks before.
const (
	week       = 7 * 1440 // minutes
	usualWeeks = 4
	usualLeast = 100 // units below which nothing is known of what is usual
)

// Question is what an evaluation depends on beside the book: all of it is recorded.
type Question struct {
	At       int64  // Unix ms
	Position uint64 // of the events log, at which the book stands
	Behind   bool   // there is more in the journal than the book knows
}

// frame is what evaluations of one book at one time have in common.
type frame struct {
	to               int32 // minute at which windows end
	budget           int32 // at which the budget's window begins
	from, until      time.Time
	through          time.Time
	at               time.Time
	digest           string
	long, short, age []string // of the alerts, as text
}

// Through returns the minute up to which an evaluation looks: up to the question's
// time, or, where the book is behind, to that of the newest row.
func (b *Book) Through(q Question) int32 {
	if q.Behind {
		return minuteOf(b.Now)
	}
	return minuteOf(q.At)
}

func (b *Book) frame(q Question) (*frame, error) {
	f := &frame{to: b.Through(q), at: time.UnixMilli(q.At).UTC(), digest: b.Objective.Digest()}
	f.through = time.Unix(int64(f.to)*60, 0).UTC()
	var err error
	if f.from, f.until, err = b.Objective.Window.Bounds(f.through); err != nil {
		return nil, err
	}
	f.from, f.until = f.from.UTC(), f.until.UTC()
	f.budget = int32(f.from.Unix() / 60)
	for _, a := range b.Objective.Alerts {
		short, long, after := "", "", ""
		if a.Form != FormTrickle {
			short, long = a.Short.String(), a.Long.String()
		}
		if a.After > 0 {
			after = a.After.String()
		}
		f.long, f.short, f.age = append(f.long, long), append(f.short, short), append(f.age, after)
	}
	return f, nil
}

// Evaluate calls fn with the state of the objective as a whole and of each of its
// groups, in the order in which they were first seen. The state is overwritten by
// the next one; Number, and Since of an incident that went on, are the caller's to
// fill in. The error is a zone that the machine does not know.
func (b *Book) Evaluate(tenant string, q Question, fn func(*verdict.SLOState)) error {
	f, err := b.frame(q)
	if err != nil {
		return err
	}
	o := &b.Objective
	s := verdict.SLOState{Version: 1, Tenant: tenant, SLO: o.Name, GroupBy: o.GroupBy, Service: o.Service, App: o.App, At: f.at, DataThrough: f.through, Position: q.Position,
		Target: o.Target, Unit: o.Unit, Method: o.Method, Digest: f.digest, Alerts: make([]verdict.Burn, len(o.Alerts))}
	s.Completeness = b.completeness(f.to)
	s.Budget.From, s.Budget.To, s.Budget.Restated = f.from, f.until, b.Restated
	b.state(&s, &b.All, f, q)
	fn(&s)
	s.Budget.Restated = verdict.Restated{}
	for _, g := range b.Groups {
		s.Group = g.Name
		b.state(&s, g, f, q)
		fn(&s)
	}
	return nil
}

// completeness is the share of events that arrived of those that are known of, in
// the longest window of an alert. It is the same for all groups: what was lost is
// not known by group.
func (b *Book) completeness(to int32) float64 {
	from := to - minutes(b.Objective.longest())
	lost := b.Lost.Sum(from, to).Total
	if lost <= 0 {
		return 1
	}
	total := max(b.All.Units.Sum(from, to).Total, 0)
	return float64(total) / float64(total+lost)
}

// state fills in what differs between the groups.
func (b *Book) state(s *verdict.SLOState, g *Group, f *frame, q Question) {
	o := &b.Objective
	s.Data = b.data(g, f, q)
	s.Incident, s.Exception = nil, nil
	c := g.Units.Sum(f.budget, f.to)
	bg := &s.Budget
	bg.Total, bg.Bad, bg.Allowed = c.Total, c.Bad, o.allowed(c.Total)
	bg.Remaining = remaining(float64(c.Bad), bg.Allowed)
	if o.Method != Occurrences {
		b.slices(bg, g, f)
	}
	var incident verdict.SLOIncident
	for i := range o.Alerts {
		b.burn(&s.Alerts[i], i, g, f)
		if burn := &s.Alerts[i]; burn.Burning && burn.WhenBreaching {
			if verdict.SeverityRank(burn.Severity) > verdict.SeverityRank(incident.Severity) {
				incident.Severity = burn.Severity
			}
			incident.Alerts = append(incident.Alerts, burn.Name)
		}
	}
	if len(incident.Alerts) > 0 {
		incident.Since = f.at
		s.Incident = &incident
	}
	b.action(s, f)
	s.Sentence = sentence(s, o)
}

// minSessions is how many sessions of the last hour tell that there is traffic of
// which something should be counted.
const minSessions = 20

// data says what the evaluation rests on.
func (b *Book) data(g *Group, f *frame, q Question) verdict.Data {
	if q.Behind {
		return verdict.PipelineFault
	}
	const hour, day = 60, 1440
	units, sessions := g.Units.Sum(f.to-hour, f.to).Total, g.Sessions.Sum(f.to-hour, f.to).Total
	if units <= 0 && sessions == 0 {
		return verdict.NoTraffic
	}
	if sessions < minSessions {
		return verdict.DataOK
	}
	// What sessions of the objective as a whole had to count, within a day before.
	// A group is compared with the others of its time: a new release has no past.
	usual, of := b.All.Units.Sum(f.to-day, f.to-hour), b.All.Sessions.Sum(f.to-day, f.to-hour)
	if g != &b.All {
		usual, of = b.All.Units.Sum(f.to-hour, f.to), b.All.Sessions.Sum(f.to-hour, f.to)
		usual.Total -= units
		of.Total -= sessions
	}
	if of.Total < minSessions {
		return verdict.DataOK
	}
	expected := float64(sessions) * float64(usual.Total) / float64(of.Total)
	if expected >= minSessions && float64(units) < expected/20 {
		return verdict.Uninstrumented
	}
	return verdict.DataOK
}

// slices fills in a budget that is counted in slices of time.
func (b *Book) slices(bg *verdict.Budget, g *Group, f *frame) {
	o := &b.Objective
	c := g.sliced(o, minutes(o.Slice), b.phase(f), f.budget, f.to)
	if o.Method == RatioTimeslices {
		bg.Total, bg.Bad = c.seen, 0
		bg.Allowed = o.allowed(c.seen)
		bg.Remaining = remaining(c.shares(), bg.Allowed)
		return
	}
	// The budget is that of the whole window, of which a calendar one has a part
	// to come.
	whole := c.total
	if !o.Window.Rolling {
		whole = int64(f.until.Sub(f.from) / o.Slice)
	}
	bg.Total, bg.Bad, bg.Allowed = c.total, c.bad, o.allowed(whole)
	bg.Remaining = remaining(float64(c.bad), bg.Allowed)
}

// rate returns a share in budgets.
func rate(bad, total int64, budget float64) verdict.Bound {
	if total <= 0 {
		return verdict.Unknown
	}
	return verdict.Bound(float64(bad) / float64(total) / budget)
}

// burn evaluates one alert of a group.
func (b *Book) burn(out *verdict.Burn, i int, g *Group, f *frame) {
	o := &b.Objective
	a := &o.Alerts[i]
	*out = verdict.Burn{Name: a.Name, Severity: a.Severity, Form: a.Form, Threshold: a.Threshold, Long: f.long[i], Short: f.short[i], After: f.age[i], Targets: a.Targets,
		WhenBreaching: a.WhenBreaching, WhenResolved: a.WhenResolved, WhenNoData: a.WhenNoData}
	if a.Form == FormTrickle {
		b.trickle(out, g, f)
		return
	}
	if o.Method != Occurrences {
		b.burnSlices(out, a, g, f)
		return
	}
	budget := o.Budget()
	from := f.to - minutes(a.Long)
	long, short := g.Units.Sum(from, f.to), g.Units.Sum(f.to-minutes(a.Short), f.to)
	out.Bad, out.Total = long.Bad, long.Total
	out.LongRate, out.ShortRate = rate(long.Bad, long.Total, budget), rate(short.Bad, short.Total, budget)
	if long.Capped <= 0 || short.Capped <= 0 {
		return
	}
	// What one client did over and over is in the rates that are told, and not in
	// those that decide.
	l, s := float64(rate(long.Capped, long.Total, budget)), float64(rate(short.Capped, short.Total, budget))
	null := o.unitBudget()
	if a.Form == FormExcess {
		expected, most := b.expected(g, a, f)
		l, s = l-expected/budget, s-expected/budget
		out.LongRate -= verdict.Bound(expected / budget)
		out.ShortRate -= verdict.Bound(expected / budget)
		null = most
	}
	if !(l >= a.Threshold && s >= a.Threshold) {
		return
	}
	out.Enough = b.many(g, long, from) && evident(long, null)
	out.Burning = out.Enough
}

// many reports whether units enough were counted from a minute on, and clients that
// have bad ones.
func (b *Book) many(g *Group, c Counts, from int32) bool {
	return c.Total >= b.Objective.MinUnits && g.clients(b.Objective.MinClients, from)
}

// evident reports whether some units are evidence that more of all are bad than a
// share of them, the null.
func evident(c Counts, null float64) bool {
	return unlikely(c.Total, min(c.Capped, c.Total), min(null, mostNull), evidenceAlpha)
}

// burnSlices evaluates an alert of an objective that budgets slices of time.
func (b *Book) burnSlices(out *verdict.Burn, a *Alert, g *Group, f *frame) {
	from := f.to - minutes(a.Long)
	long := g.Units.Sum(from, f.to)
	out.Bad, out.Total = long.Bad, long.Total
	l, c := b.sliceRate(g, minutes(a.Long), f)
	s, _ := b.sliceRate(g, minutes(a.Short), f)
	out.LongRate, out.ShortRate = verdict.Bound(l), verdict.Bound(s)
	if long.Capped <= 0 || !(l >= a.Threshold && s >= a.Threshold) {
		return
	}
	out.Enough = b.many(g, long, from) && (evident(long, b.Objective.unitBudget()) || b.evidentSlices(g, c, minutes(a.Long), f))
	out.Burning = out.Enough
}

// evidentSlices reports whether the slices of a window are evidence by themselves that
// more of their units are bad than may be: what is bad for some slices and not for others
// is little of all units. That bad slices were picked for being bad is paid for by the
// number of ways to pick as many (union bound).
func (b *Book) evidentSlices(g *Group, c sliceCounts, length int32, f *frame) bool {
	o := &b.Objective
	if o.Method == RatioTimeslices {
		from, to := b.sliceWindow(length, f)
		return g.evidentShares(o, minutes(o.Slice), b.phase(f), from, to)
	}
	return surprise(c.failed.Total, min(c.failed.Capped, c.failed.Total), min(o.unitBudget(), mostNull)) > logChoose(c.total, c.bad)+math.Log(float64(c.total))-math.Log(evidenceAlpha)
}

// phase is a minute at which a slice begins: those of a rolling window begin at whole
// slices since 1970, those of a calendar window at its start.
func (b *Book) phase(f *frame) int32 {
	if b.Objective.Window.Rolling {
		return 0
	}
	return f.budget
}

// sliceWindow returns the window of some minutes that ends with the last slice that is
// over: one that ended at any minute would have a slice less at most of them, and one of
// a single slice none.
func (b *Book) sliceWindow(length int32, f *frame) (from, to int32) {
	to = f.to - mod(f.to-b.phase(f), minutes(b.Objective.Slice))
	return to - length, to
}

// sliceRate returns in budgets how many of the slices of a window are bad, or, of
// RatioTimeslices, how much of them is on the mean. NaN: there is none to tell. The
// slices are returned, too.
func (b *Book) sliceRate(g *Group, length int32, f *frame) (float64, sliceCounts) {
	o := &b.Objective
	from, to := b.sliceWindow(length, f)
	c := g.sliced(o, minutes(o.Slice), b.phase(f), from, to)
	if o.Method == RatioTimeslices {
		return c.shares() / float64(c.seen) / o.Budget(), c
	}
	return float64(c.bad) / float64(c.total) / o.Budget(), c
}

// recent are the windows, in minutes, of which the first one that holds enough
// units says whether what a trickle alert found still goes on: a service has
// recovered when that is not bad any more, however much evidence there was.
var recent = [...]int32{5, 15, 60, 360}

func (b *Book) trickle(out *verdict.Burn, g *Group, f *frame) {
	o := &b.Objective
	hour := g.Units.Sum(f.to-60, f.to)
	out.Bad, out.Total = hour.Bad, hour.Total
	out.Threshold = logAlarm
	logE := g.Detector.logE()
	out.LongRate, out.ShortRate = verdict.Bound(logE), verdict.Unknown
	out.Enough = logE >= logAlarm && g.clients(o.MinClients, f.to-1440)
	if !out.Enough {
		return
	}
	for _, w := range recent {
		c := g.Units.Sum(f.to-w, f.to)
		if c.Total >= max(o.MinUnits, 1) || w == recent[len(recent)-1] {
			out.Burning = c.Total > 0 && float64(c.Capped) >= o.trickleRate()*float64(c.Total)
			return
		}
	}
}

// expected returns the bad rate that is usual at the time of an alert's long
// window, and the most that it is likely to be (the upper end of Wilson's interval
// of 3 standard deviations). Where less than a week is known it is that of the week
// before; where nothing is, the budget.
func (b *Book) expected(g *Group, a *Alert, f *frame) (p, most float64) {
	var c Counts
	long := minutes(a.Long)
	for w := int32(1); w <= usualWeeks; w++ {
		c = c.plus(g.Units.Sum(f.to-long-w*week, f.to-w*week))
	}
	if c.Total < usualLeast {
		c = g.Units.Sum(f.to-long-week, f.to-max(long, 360))
	}
	if c.Total < usualLeast {
		return b.Objective.Budget(), b.Objective.Budget()
	}
	const z = 3
	n, k := float64(c.Total), float64(max(c.Bad, 0))
	p = k / n
	center, half := (k+z*z/2)/(n+z*z), z*math.Sqrt(n*p*(1-p)+z*z/4)/(n+z*z)
	return p, min(center+half, 1)
}

// action says what the budget policy lets a pipeline do. It is of the whole: what
// is left to a group of few units says little.
func (b *Book) action(s *verdict.SLOState, f *frame) {
	s.Action = verdict.Allow
	if s.Group != "" {
		return
	}
	left := float64(s.Budget.Remaining)
	for _, r := range b.Objective.Policy {
		if left <= r.Remaining && r.Action > s.Action { // not of an unknown one
			s.Action = r.Action
		}
	}
	for i := len(b.Exceptions) - 1; i >= 0; i-- {
		e := b.Exceptions[i] // a copy: what is handed out changes no more
		if !f.at.Before(e.Until) || f.at.Before(e.At) || e.Action >= s.Action {
			continue
		}
		s.Action, s.Exception = e.Action, &e
		return
	}
}

// sentence says what a person should know first.
func sentence(s *verdict.SLOState, o *Objective) string {
	of := o.Name
	if s.Group != "" {
		of += " of " + o.GroupBy + " " + s.Group
	}
	switch {
	case s.Data == verdict.PipelineFault:
		return of + ": the analysis is behind the journal; this is as of " + s.DataThrough.Format(time.RFC3339) + "."
	case s.Data == verdict.Uninstrumented:
		return of + ": sessions come, and next to nothing of what is to be counted: what reports it is broken."
	case s.Incident != nil:
		for i := range s.Alerts {
			if a := &s.Alerts[i]; a.Burning && a.Severity == s.Incident.Severity {
				return burning(of, a, s)
			}
		}
	case s.Data == verdict.NoTraffic:
		return of + ": no traffic in the last hour."
	case s.Action != verdict.Allow:
		return fmt.Sprintf("%s: %s of the error budget is left; the policy says %s.", of, s.Budget.Left(), s.Action)
	}
	return of + ": within its budget."
}

func burning(of string, a *verdict.Burn, s *verdict.SLOState) string {
	share := 100 * float64(a.Bad) / float64(max(a.Total, 1))
	if a.Form == FormTrickle {
		return fmt.Sprintf("%s: %d of %d %ss of the last hour (%.1f %%) are bad, and that is no chance.", of, a.Bad, a.Total, s.Unit, share)
	}
	over := ""
	if a.Form == FormExcess {
		over = " over what is usual"
	}
	return fmt.Sprintf("%s: %d of %d %ss of the last %s (%.1f %%) are bad: the budget burns %.3g times as fast as it may%s.", of, a.Bad, a.Total, s.Unit, a.Long, share, float64(a.LongRate), over)
}
