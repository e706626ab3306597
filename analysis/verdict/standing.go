package verdict

import (
	"fmt"
	"time"
)

// State says how an answer stands at the moment it is read.
type State string

// The states. All but [StatePromote] and [StateRollback] are read as hold: absence, an
// error and a stale answer neither promote nor roll back.
const (
	StatePromote     State = "promote"
	StateHold        State = "hold"
	StateRollback    State = "rollback"
	StateExpired     State = "expired"     // a promote whose lease has run out
	StateUnknown     State = "unknown"     // there is no such rollout
	StateUnavailable State = "unavailable" // the analysis is down
)

// Standing is a verdict as it stands at one moment. It is all that dialects of
// delivery tools are made from, so that they cannot disagree. The zero Standing
// is read as hold.
type Standing struct {
	State   State
	Verdict *Verdict // nil where the state is unknown or unavailable
	Last    bool     // the verdict is for the rollout's last stage
	// Why says in one sentence why there is no verdict, or why it is not one on
	// the stage that was asked for.
	Why string
}

// Stand returns how a verdict stands at a time.
func Stand(v *Verdict, last bool, now time.Time) Standing {
	s := Standing{State: StateHold, Verdict: v, Last: last}
	switch {
	case v.Decision == Rollback:
		s.State = StateRollback
	case v.Decision == Promote && v.At(now) == Promote:
		s.State = StatePromote
	case v.Decision == Promote:
		s.State = StateExpired
		s.Why = fmt.Sprintf("the promote of %s was valid until %s", v.IssuedAt.UTC().Format(time.RFC3339), v.ValidUntil.UTC().Format(time.RFC3339))
	}
	return s
}

// Decision returns what a delivery tool should do.
func (s Standing) Decision() Decision {
	switch s.State {
	case StatePromote:
		return Promote
	case StateRollback:
		return Rollback
	}
	return Hold
}

// Sentence returns one sentence for people.
func (s Standing) Sentence() string {
	switch {
	case s.Why != "":
		return s.Why
	case s.Verdict != nil:
		return s.Verdict.Sentence
	}
	return "there is no answer yet"
}
