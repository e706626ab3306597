// Package gate answers delivery tools that ask: each of its dialects is a pure
// view of one [verdict.Standing], so that no two tools can be told different
// things (docs/delivery).
//
// What all dialects keep: only a promote that is valid says go, only a rollback
// says back, and whatever else there is (no evidence yet, an expired promote, a
// rollout that nobody registered, an analysis that is down) says wait. No
// dialect answers with an error status where its tool would take that for a
// failed canary.
package gate

import (
	"time"

	"serin.dev/serin/analysis/verdict"
)

// Answer is the native dialect: what Argo Rollouts' web provider, a pipeline's
// script or any tool that reads JSON is told, always with status 200.
type Answer struct {
	Decision   string        `json:"decision"` // promote, hold or rollback
	State      verdict.State `json:"state"`    // why a hold is one
	Sentence   string        `json:"sentence"`
	Rollout    string        `json:"rollout,omitempty"`
	App        string        `json:"app,omitempty"`
	Stage      *int          `json:"stage,omitempty"` // that the verdict is for, from 0
	Number     uint64        `json:"number,omitempty"`
	Reasons    []string      `json:"reasons,omitempty"` // codes, the leading one first
	IssuedAt   *time.Time    `json:"issued_at,omitempty"`
	ValidUntil *time.Time    `json:"valid_until,omitempty"`
}

// Native returns the native answer.
func Native(s verdict.Standing) Answer {
	a := Answer{Decision: s.Decision().String(), State: s.State, Sentence: s.Sentence()}
	if s.State == "" {
		a.State = verdict.StateUnavailable
	}
	if v := s.Verdict; v != nil {
		stage := v.Stage
		a.Rollout, a.App, a.Stage, a.Number = v.Rollout, v.App, &stage, v.Number
		for _, r := range v.Reasons {
			a.Reasons = append(a.Reasons, string(r.Code))
		}
		if v.Number > 0 {
			issued, until := v.IssuedAt, v.ValidUntil
			a.IssuedAt, a.ValidUntil = &issued, &until
		}
	}
	return a
}
