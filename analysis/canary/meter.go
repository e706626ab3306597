package canary

import (
	"math"
	"time"

	"serin.dev/serin/analysis/exposure"
	"serin.dev/serin/analysis/session"
	"serin.dev/serin/analysis/verdict"
)

// recent is over how long the traffic is counted that a meter supposes, in ms.
const recent = 10 * 60_000

// Exposure returns what the rollout has come to by a verdict of it, for the meter.
func (t *Test) Exposure(v *verdict.Verdict) exposure.State {
	p := &t.Rollout.Policy
	at := v.IssuedAt.UnixMilli()
	s := exposure.State{Stage: t.Stage, Sessions: v.Sessions, Users: v.Radius.Users, PerHour: t.perHour(), Lag: time.Duration(p.Epoch)}
	for _, st := range t.Rollout.Stages[t.Stage:] {
		s.Steps = append(s.Steps, exposure.Step{Weight: st.Weight, MinSessions: st.MinSessions, Dwell: time.Duration(st.Dwell), Deadline: time.Duration(st.Deadline)})
	}
	s.Given = max(s.Steps[0].Deadline-time.Duration(at-t.Staged)*time.Millisecond, 0)
	given := t.Rollout.Stages[t.Stage]
	if v.Decision == verdict.Promote && len(s.Steps) > 1 {
		given = t.Rollout.Stages[t.Stage+1]
		s.Given = time.Duration(given.Deadline)
	}
	s.Holds = given.OnDeadline == DeadlineHold || given.OnDeadline == "" && p.OnDeadline == DeadlineHold
	switch {
	case v.Decision == verdict.Rollback:
		s.Rest = "It is to be rolled back: there is no next step."
	case v.Decision == verdict.Promote:
		s.Promoted = true
	case t.ForcedBy != nil:
		s.Rest = "A person holds it: there is no next step."
	default:
		switch c := v.Reasons[0].Code; c {
		case verdict.Collecting, verdict.Evidence, verdict.NoExposure, verdict.Stale:
		case verdict.Deadline:
			s.Rest = "The time given is over."
		default:
			s.Rest = "More traffic would not help: " + v.Reasons[0].Text + "."
		}
	}
	for i := range v.Findings {
		f := &v.Findings[i]
		m, isRate := session.ParseMetric(f.Guardrail)
		g := t.Rollout.Policy.Guardrails[f.Guardrail]
		if !isRate || g.Direction == DirectionDecrease {
			s.Values = append(s.Values, f.Guardrail)
			continue
		}
		one := exposure.Guardrail{Name: f.Guardrail, Sessions: f.Sessions, Failures: f.Failures, Effect: f.Effect, Margin: g.Margin, Floor: g.Floor,
			Required: !g.Optional, Critical: g.critical(), Proven: float64(f.LogESafe) >= math.Log(1/p.Beta), Untold: t.paired(m),
			// Either of the two proofs, and an effect that all share, have a part of
			// the weight.
			LogEHarm: float64(f.LogEHarm), NeedHarm: -math.Log(p.Alpha * g.Weight * t.sharedPart()), NeedSafe: math.Log(2 / p.Beta)}
		one.LogERatio, one.LogEFloor = t.proofs(m, t.guardrail(m), nil)
		one.Pass, one.Fail = floorFactors(t.guardrail(m))
		s.Guardrails = append(s.Guardrails, one)
	}
	return s
}

// perHour returns how many sessions of both arms came per hour of late; NaN where
// that is not known yet.
func (t *Test) perHour() float64 {
	since, before := t.Created, int64(0)
	for i := len(t.Trace.Points) - 1; i >= 0; i-- {
		if p := &t.Trace.Points[i]; p.At <= t.Now-recent {
			since, before = p.At, p.Sessions.Canary+p.Sessions.Baseline
			break
		}
	}
	elapsed := t.Now - since
	if elapsed < minPace {
		return math.NaN()
	}
	if n := t.Sessions[0] + t.Sessions[1] - before; n > 0 {
		return float64(n) / float64(elapsed) * 3600_000
	}
	return math.NaN()
}
