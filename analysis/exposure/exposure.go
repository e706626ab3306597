// Package exposure is the meter of a rollout: whom it reached, what it cost so
// far and may cost at the next step, and the smallest share of the traffic at
// which the evidence still decides in the time given. It only proposes.
//
// All of it are estimates by mean evidence, as an outlook's are; no verdict rests
// on them (docs/statistics.md, The next step).
package exposure

import (
	"math"
	"slices"
	"time"

	"serin.dev/serin/analysis/verdict"
)

// State is what a rollout has come to, and what it may still do.
type State struct {
	Stage    int          // under way, from 0
	Steps    []Step       // the planned stages from the one under way on
	Sessions verdict.Arms // so far
	Users    int64        // on the canary so far, estimated
	PerHour  float64      // sessions of both arms together; NaN: not known yet
	// Given is the time in which it is to be decided: what is left of the stage,
	// or, once that is promoted, all of the next one.
	Given time.Duration
	Lag   time.Duration // from a failure to its evidence
	Holds bool          // the end of the time given holds; else it rolls back, which decides
	// Rest says why no share would help: the rollout is decided, or the data are at
	// fault. Empty: a share is proposed.
	Rest       string
	Promoted   bool // the stage under way may be left
	Guardrails []Guardrail
	// Values are the guardrails on values: they count no failures, and how fast their
	// evidence grows is not known.
	Values []string
}

// Step is a planned stage.
type Step struct {
	Weight      float64       // share of the canary, in (0,1)
	MinSessions int64         // canary sessions that a promote asks for, of the whole rollout
	Dwell       time.Duration // least time before a promote
	Deadline    time.Duration // from its beginning
}

// Guardrail is the evidence on one guardrail that counts failing sessions. Logs
// are natural.
type Guardrail struct {
	Name     string
	Sessions verdict.Arms
	Failures verdict.Arms
	Effect   verdict.Effect // ratio of the odds, with its interval
	Margin   float64        // tolerated worsening, above 0
	Floor    float64        // a failure share that is safe whatever the ratio, in (0,1)
	Required bool           // a promote needs its proof of safety
	Critical bool           // its harm rolls back
	Proven   bool           // its proof of safety is there

	LogEHarm, NeedHarm float64 // of harm: now, and what rolls back
	// LogERatio and LogEFloor are the two proofs of safety, of the ratio and below
	// the floor; either suffices at NeedSafe.
	LogERatio, LogEFloor, NeedSafe float64
	// Pass and Fail are what one canary session adds to LogEFloor.
	Pass, Fail float64
	// Untold says that it is not known how fast the evidence grows: it is left out
	// of what a share needs.
	Untold bool
}

// Meter is what is read of a state.
type Meter struct {
	Sessions int64         `json:"sessions"` // on the canary so far
	Users    int64         `json:"users"`    // estimated to about 2 %
	PerHour  verdict.Bound `json:"sessions_per_hour"`
	Harm     []Harm        `json:"harm"`              // so far, by guardrail
	Planned  *Outcome      `json:"planned,omitempty"` // the next stage as it is planned
	// Proposed is the smallest share that still decides in the time given; absent
	// where Why says why.
	Proposed *Outcome `json:"proposed,omitempty"`
	// Stage is the first planned stage from the one under way on whose share
	// suffices; absent where none does.
	Stage *int   `json:"stage,omitempty"`
	Why   string `json:"why"` // one sentence for people
	// Untold are the guardrails that nothing is known of beforehand.
	Untold []string `json:"untold,omitempty"`
}

// Harm is what a guardrail cost so far: failed canary sessions beyond those that
// the baseline's odds would have given. The interval is that of the effect.
type Harm struct {
	Guardrail string        `json:"guardrail"`
	Failures  verdict.Arms  `json:"failures"`
	Excess    verdict.Bound `json:"excess"`
	Lo        verdict.Bound `json:"excess_lo"`
	Hi        verdict.Bound `json:"excess_hi"` // at most all of the canary's failures
}

// Outcome is what a share of the traffic comes to.
type Outcome struct {
	Share    float64       `json:"share"`
	Hours    float64       `json:"hours"`             // in which it is to be decided
	Sessions verdict.Bound `json:"sessions"`          // more canary sessions in that time
	Users    verdict.Bound `json:"users"`             // likewise, if they have as many sessions as so far
	Decides  verdict.Bound `json:"hours_to_decision"` // likely; null: never
	Needs    string        `json:"needs,omitempty"`   // the guardrail that takes longest
	// Excess is the harm at the upper end of what is still plausible if the share
	// stays for all of the time; Found if the evidence of it rolls back. Both are
	// of the guardrail where the latter is largest.
	Excess    verdict.Bound `json:"excess_at_most"`
	Found     verdict.Bound `json:"excess_until_found"`
	Guardrail string        `json:"guardrail,omitempty"`
}

// Shares are those that are proposed, rising: figures that people can set.
var Shares = func() (all []float64) {
	for _, decade := range []float64{0.001, 0.01, 0.1} {
		for _, digit := range []float64{1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8} {
			if s := math.Round(digit*decade*1e4) / 1e4; s <= 0.5 {
				all = append(all, s)
			}
		}
	}
	return all
}()

// Read reads the meter.
func Read(s State) Meter {
	m := Meter{Sessions: s.Sessions.Canary, Users: s.Users, PerHour: verdict.Bound(s.PerHour), Harm: []Harm{}}
	for i := range s.Guardrails {
		g := &s.Guardrails[i]
		m.Harm = append(m.Harm, harm(g))
		if g.Untold {
			m.Untold = append(m.Untold, g.Name)
		}
	}
	m.Untold = append(m.Untold, s.Values...)
	switch {
	case s.Rest != "":
		m.Why = s.Rest
		return m
	case math.IsNaN(s.PerHour):
		m.Why = "How much traffic comes is not known yet."
		return m
	}
	now, next := s.Steps[0], s.Steps[0]
	if len(s.Steps) > 1 {
		next = s.Steps[1]
		o := s.outcome(next, next.Deadline)
		m.Planned = &o
	} else if s.Promoted {
		m.Why = "The last stage may be left: there is no share to propose."
		return m
	}
	to := now
	if s.Promoted {
		to = next
	}
	shares := Shares
	if next.Weight > shares[len(shares)-1] { // planned, though half would tell the most
		shares = append(slices.Clip(shares), next.Weight)
	}
	for _, share := range shares {
		if s.Promoted && share < now.Weight {
			continue // a rollout does not go back
		}
		to.Weight = share
		if o := s.outcome(to, s.Given); float64(o.Decides) <= o.Hours {
			m.Proposed = &o
			break
		}
	}
	if m.Proposed == nil {
		to.Weight = Shares[len(Shares)-1]
		o := s.outcome(to, s.Given)
		m.Why = tooLate(s, &o)
		return m
	}
	from := 0
	if s.Promoted {
		from = 1
	}
	if i := slices.IndexFunc(s.Steps[from:], func(p Step) bool { return p.Weight >= m.Proposed.Share }); i >= 0 {
		stage := s.Stage + from + i
		m.Stage = &stage
	}
	m.Why = proposal(&m, &s)
	return m
}

// harm returns what a guardrail cost so far. Of x failures at a ratio r of the
// odds, x (1 - 1/r) would not have been, as long as failures are rare.
func harm(g *Guardrail) Harm {
	x := float64(g.Failures.Canary)
	excess := func(ratio verdict.Bound) verdict.Bound {
		switch r := float64(ratio); {
		case math.IsNaN(r):
			return verdict.Unknown
		case math.IsInf(r, 1):
			return verdict.Bound(x)
		case r <= 0:
			return verdict.Bound(math.Inf(-1))
		default:
			return verdict.Bound(x * (1 - 1/r))
		}
	}
	hi := g.Effect.Hi
	if math.IsNaN(float64(hi)) { // as JSON has it
		hi = verdict.Bound(math.Inf(1))
	}
	return Harm{g.Name, g.Failures, excess(g.Effect.Ratio), excess(g.Effect.Lo), excess(hi)}
}
