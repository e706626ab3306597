package slo

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"serin.dev/serin/analysis/verdict"
	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/store/batch"
)

// Rollout is a change whose spending of a budget is asked for.
type Rollout struct {
	ID                       string // by which [Book.Watch] knows it
	Change, Canary, Baseline string
	Since                    int64 // Unix ms: when it began
	// Arm says on which side of the change a unit is; ok is false for one that takes
	// no part.
	Arm func(arms []event.Arm, release event.Release) (canary, ok bool)
}

// What a decision on a rollout's spending needs. The interval is normal only
// approximately, so that it says nothing of a few bad units; and what a window's
// budget is likely to be is not known from minutes.
const (
	spendLeastBad     = 30
	spendLeastMinutes = 60
	spendTuned        = 100 // variance, in units squared, at which the interval is tightest
)

// Spend returns what a rollout's canary spent of the budget by its excess over the
// baseline that was served beside it, in the same hour, stratum and arms of other
// changes, and the share of the budget that it may spend. The budget is that of a
// whole window, at the traffic of the window so far.
//
// The interval is a confidence sequence, the normal mixture of Robbins (1970) at the
// variance of [Spending.Who]: at level alpha its lower end is over the truth at no
// look, approximately, however often one looks. Where it is over the limit, and the
// book watches the rollout, the network is looked for without which it is least.
func (b *Book) Spend(r Rollout, share, alpha float64, q Question) *verdict.Spend {
	s := &verdict.Spend{SLO: b.Objective.Name, Excess: verdict.Unknown, Lo: verdict.Unknown, Hi: verdict.Unknown}
	f, err := b.frame(q)
	if err != nil {
		s.Refused = err.Error()
		return s
	}
	known := max(f.budget, minuteOf(b.Began))
	whole := f.until.Sub(f.from)
	if b.Objective.Window.Rolling {
		whole = b.Objective.Window.Period()
	}
	if f.to > known {
		total := float64(b.All.Units.Sum(known, f.to).Total)
		s.Allowed = b.Objective.Budget() * total * float64(whole/time.Minute) / float64(f.to-known)
	}
	s.Limit = share * s.Allowed
	own, control, bad := b.compared(r, f.to)
	e := compare(own, control)
	s.Bad, s.Compared = bad, e.compared
	if e.compared > 0 {
		half := e.half(alpha)
		s.Excess, s.Lo, s.Hi = verdict.Bound(e.sum), verdict.Bound(e.sum-half), verdict.Bound(e.sum+half)
	}
	switch {
	case f.to-known < spendLeastMinutes:
		s.Refused = fmt.Sprintf("%d minutes of the objective are known: at least %d are needed to tell a window's budget", max(f.to-known, 0), spendLeastMinutes)
	case bad < spendLeastBad:
		s.Refused = fmt.Sprintf("%d bad units on the canary: at least %d are needed", bad, spendLeastBad)
	}
	if i := slices.IndexFunc(b.Spenders, func(s *Spender) bool { return s.ID == r.ID }); i >= 0 && s.Refused == "" && float64(s.Lo) > s.Limit {
		b.Spenders[i].rollout = r // a checkpoint does not hold it
		s.Alone = b.Spenders[i].alone(b, own, control, e, alpha)
	}
	return s
}

// compared returns the units of a rollout's canary and of its baseline since it began,
// in whole quarters of an hour, by what is alike, and counts the canary's bad ones.
func (b *Book) compared(r Rollout, to int32) (own, control map[cell]count, bad int64) {
	own, control = map[cell]count{}, map[cell]count{}
	from := minuteOf(r.Since)
	from -= mod(from, quarter)
	for _, c := range b.Cohorts {
		arms := batch.ParseArms(c.Arms)
		canary, ok := r.Arm(arms, event.Release(c.Release))
		if !ok {
			continue
		}
		rest := r.rest(arms, c.Release)
		last := c.Units.upTo(from)
		for _, bs := range [...][]Bucket{c.Units.Coarse, c.Units.Fine} {
			for _, k := range bs[find(bs, from):find(bs, to+mod(-to, quarter))] {
				d := k.Until.minus(last)
				last = k.Until
				h := Hour{Total: d.Total, Bad: d.Bad}
				at := cell{k.At - mod(k.At, 60), c.Stratum, rest}
				if canary {
					put(own, at, &h)
					bad += d.Bad
				} else {
					put(control, at, &h)
				}
			}
		}
	}
	return own, control, bad
}

// rest is what must be alike beside the change: the arms of others, and the release
// where the change is none.
func (r *Rollout) rest(arms []event.Arm, release string) string {
	isRelease := strings.HasPrefix(r.Change, releaseChange)
	var parts []string
	for _, a := range arms {
		if a.Change != r.Change && !(isRelease && strings.HasPrefix(a.Change, releaseChange)) {
			parts = append(parts, a.Change+"="+a.Variant)
		}
	}
	slices.Sort(parts)
	if !isRelease && release != r.Canary && release != r.Baseline {
		parts = append(parts, release)
	}
	return strings.Join(parts, ";")
}
