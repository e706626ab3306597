package canary

import (
	"math"
	"time"

	"serin.dev/serin/analysis/evalue"
	"serin.dev/serin/analysis/session"
	"serin.dev/serin/analysis/verdict"
)

// minPace is how long a stage must have lasted for its pace to be told, in ms.
const minPace = 5_000

// farthest is how far ahead a time is told, in ms; what is later cannot be told.
const farthest = 366 * 24 * 3600_000

// outlook fills in what the stage still needs and what it can come to, if
// sessions come and fail as they did in it so far. All of it are estimates by
// mean evidence ([evalue.MarksNeeded], [evalue.SafetyMarksNeeded]); no decision
// rests on them.
func (t *Test) outlook(v *verdict.Verdict, q Question) {
	p := &t.Rollout.Policy
	stage := t.Rollout.Stages[t.Stage]
	deadline := t.Staged + min(stage.Deadline.ms(), farthest)
	o := &verdict.Outlook{Deadline: time.UnixMilli(deadline).UTC(), Detectable: verdict.Unknown}
	v.Outlook = o
	elapsed := q.At - t.Staged
	now := t.standing()
	canary, baseline := now.Sessions[1]-t.Before.Sessions[1], now.Sessions[0]-t.Before.Sessions[0]
	if elapsed < minPace || canary <= 0 || baseline <= 0 {
		return
	}
	pace := float64(canary) / float64(elapsed) // canary sessions per ms
	share := float64(canary) / float64(canary+baseline)

	last := max(q.At, t.Staged+min(stage.Dwell.ms(), farthest)) // when the last proof is likely
	if n := stage.MinSessions - t.Sessions[1]; n > 0 {
		last = max(last, later(q.At, float64(n)/pace))
	}
	known, slowest := last < q.At+farthest, int64(0)
	for i := range v.Findings {
		f := &v.Findings[i]
		m, isRate := session.ParseMetric(f.Guardrail)
		if !isRate || t.paired(m) { // how fast its evidence grows is not known
			if f.Required && float64(f.LogESafe) < math.Log(1/p.Beta) {
				known = false
			}
			continue
		}
		g := t.guardrail(m)
		failing := float64(now.Failures[m][0]+now.Failures[m][1]-t.Before.Failures[m][0]-t.Before.Failures[m][1]) / float64(canary) // of both arms, per canary session
		if f.Required && float64(f.LogESafe) < math.Log(1/p.Beta) {
			f.More = t.more(m, g, share, failing)
			at := int64(math.MaxInt64)
			if s := float64(f.More.Sessions); !math.IsNaN(s) {
				if at = later(q.At, s/pace); at < q.At+farthest {
					when := time.UnixMilli(at).UTC()
					f.More.At = &when
				}
			}
			if known = known && f.More.At != nil; at > slowest {
				slowest, o.Needs = at, f.Guardrail
			}
			if f.More.At != nil {
				last = max(last, at)
			}
		}
		if g.critical() && g.Direction != DirectionDecrease {
			marks := float64(now.Failures[m][0]+now.Failures[m][1]) + failing*pace*float64(max(deadline-q.At, 0))
			r := verdict.Bound(evalue.DetectableRatio(share, marks, p.Alpha*g.Weight*t.sharedPart()))
			if o.Detects == "" || r < o.Detectable {
				o.Detectable, o.Detects = r, f.Guardrail
			}
		}
	}
	if known {
		when := time.UnixMilli(last).UTC()
		o.Promote = &when
	}
}

// later returns a time some ms after another, in Unix ms, at most farthest.
func later(at int64, ms float64) int64 {
	if !(ms < farthest) {
		return at + farthest
	}
	return at + int64(math.Ceil(ms))
}

// more returns what the proof of safety of a guardrail still needs, where the
// canary has a share of the sessions, and failing sessions of both arms come per
// canary session. Either of two proofs suffices, or where fewer is harm the only
// one; what the sooner one needs is told.
func (t *Test) more(m session.Metric, g *Guardrail, share, failing float64) *verdict.More {
	beta := t.Rollout.Policy.Beta
	if g.Direction == DirectionDecrease {
		marks := marksTo(math.Log(1/beta)-t.safeByRatio(m, g, nil), share, 1/(1+g.Margin)-1)
		return &verdict.More{Failures: told(marks), Sessions: told(sessionsTo(marks, failing))}
	}
	ratio, floor := t.proofs(m, g, nil)
	marks := marksTo(math.Log(2/beta)-ratio, share, g.Margin)
	byRatio := sessionsTo(marks, failing)
	pass, fail := floorFactors(g)
	byFloor := math.Inf(1)
	if drift := (1-failing*share)*pass + failing*share*fail; drift > 0 {
		byFloor = max(math.Log(2/beta)-floor, 0) / drift
	}
	if byRatio <= byFloor {
		return &verdict.More{Failures: told(marks), Sessions: told(byRatio)}
	}
	return &verdict.More{Failures: verdict.Unknown, Sessions: told(byFloor)}
}

// marksTo returns how many marks bring some evidence on average, in nats, at a
// share and margin. SafetyMarksNeeded is in proportion to it, here to 1 nat.
func marksTo(evidence, share, margin float64) float64 {
	return math.Ceil(max(evidence, 0) * evalue.SafetyMarksNeeded(share, margin, math.Exp(-1)))
}

// sessionsTo returns how many canary sessions bring some marks.
func sessionsTo(marks, failing float64) float64 {
	if failing > 0 && !math.IsInf(marks, 1) {
		return marks / failing
	}
	return math.Inf(1)
}

// told rounds a number up, and makes what is infinite unknown.
func told(n float64) verdict.Bound {
	if math.IsInf(n, 1) {
		return verdict.Unknown
	}
	return verdict.Bound(math.Ceil(n))
}
