package exposure

import (
	"math"
	"time"

	"serin.dev/serin/analysis/evalue"
	"serin.dev/serin/analysis/verdict"
)

// reserve is by how much more is planned for than Wald's bound: the mixtures need
// 3 to 45 % more than a test that knows the effect (TestTuning of evalue), and
// half of all runs more than the mean (serin lab ladder counts how many are in
// time).
const reserve = 1.3

// outcome returns what a step comes to in a time.
func (s *State) outcome(to Step, given time.Duration) Outcome {
	hours := given.Hours()
	o := Outcome{Share: to.Weight, Hours: hours, Users: verdict.Unknown}
	sessions := to.Weight * s.PerHour * hours
	o.Sessions = verdict.Bound(math.Ceil(sessions))
	if s.Sessions.Canary > 0 {
		o.Users = verdict.Bound(math.Ceil(sessions * float64(s.Users) / float64(s.Sessions.Canary)))
	}
	needed := float64(max(to.MinSessions-s.Sessions.Canary, 0))
	for i := range s.Guardrails {
		g := &s.Guardrails[i]
		if g.Untold {
			continue
		}
		if n := g.sessions(to.Weight, s.Holds); n > needed {
			needed, o.Needs = n, g.Name
		}
		if !g.Critical {
			continue
		}
		found, all := g.harmAt(to.Weight, sessions, to.Weight*s.PerHour*s.Lag.Hours())
		if o.Guardrail == "" || verdict.Bound(found) > o.Found {
			o.Found, o.Excess, o.Guardrail = verdict.Bound(found), verdict.Bound(all), g.Name
		}
	}
	o.Decides = verdict.Bound(max(needed/(to.Weight*s.PerHour), to.Dwell.Hours()))
	return o
}

// risk is the share of the baseline's sessions that fail. Half a failure is added,
// so that it is above 0 where none was seen.
func (g *Guardrail) risk() float64 {
	return (float64(g.Failures.Baseline) + 0.5) / (float64(g.Sessions.Baseline) + 1)
}

// worst is the largest ratio of the odds that is still plausible. No more than all
// can fail.
func (g *Guardrail) worst() float64 {
	all := 1 / g.risk()
	if hi := float64(g.Effect.Hi); hi < all { // false for NaN and +Inf
		return max(hi, 1)
	}
	return all
}

// sessions returns about how many more canary sessions the guardrail needs at a
// share until it is decided: its proof of safety, if the canary is as good as the
// baseline. Where the deadline would hold for good, its evidence of harm, too, if the
// canary is at the margin; else the deadline rolls such a one back. It is +Inf where
// that cannot come.
func (g *Guardrail) sessions(share float64, holds bool) float64 {
	p := g.risk()
	needed := 0.0
	if g.Required && !g.Proven {
		// SafetyMarksNeeded and MarksNeeded are in proportion to the evidence, here
		// 1 nat.
		marks := max(g.NeedSafe-g.LogERatio, 0) * evalue.SafetyMarksNeeded(share, g.Margin, math.Exp(-1))
		byRatio, byFloor := marks*share/p, math.Inf(1)
		if drift := g.drift(p); drift > 0 {
			byFloor = max(g.NeedSafe-g.LogEFloor, 0) / drift
		}
		needed = min(byRatio, byFloor)
	}
	// Where the margin is no longer plausible, or would be below the floor, it is not
	// to be found.
	if edge := 1 + g.Margin; holds && g.Critical && !g.Proven && g.worst() >= edge && g.drift(p*edge) <= 0 {
		marks := max(g.NeedHarm-max(g.LogEHarm, 0), 0) * evalue.MarksNeeded(share, edge, math.Exp(-1))
		needed = max(needed, marks*share/(p*(1-share+share*edge)))
	}
	return reserve * needed
}

// drift is the mean growth of the floor's proof with a canary session, where a
// share p of them fails.
func (g *Guardrail) drift(p float64) float64 {
	p = min(p, 1)
	return (1-p)*g.Pass + p*g.Fail
}

// ratios is how many ratios are looked at for the worst one.
const ratios = 64

// harmAt returns the excess failures of the canary at the worst ratio that is
// still plausible, of so many more canary sessions at a share: all of it, and the
// most that any plausible ratio beyond the margin comes to until it is found. late are the sessions
// that come before a failure is evidence.
func (g *Guardrail) harmAt(share, sessions, late float64) (found, all float64) {
	p, worst := g.risk(), g.worst()
	all = sessions * p * (worst - 1)
	if worst <= 1 {
		return 0, 0
	}
	evidence := reserve * max(g.NeedHarm-max(g.LogEHarm, 0), 0)
	// What is within the margin is tolerated, and would take for ever to find.
	lo, hi := math.Log(min(1+g.Margin, worst)), math.Log(worst)
	for k := range ratios {
		r := math.Exp(lo + (hi-lo)*float64(k)/(ratios-1))
		until := late
		if evidence > 0 {
			until += evidence * evalue.MarksNeeded(share, r, math.Exp(-1)) * share / (p * (1 - share + share*r))
		}
		found = max(found, min(until, sessions)*p*(r-1))
	}
	return found, all
}
