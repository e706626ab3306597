package analysis

import (
	"context"
	"fmt"

	"serin.dev/serin/analysis/verdict"
	"serin.dev/serin/internal/tenant"
)

// Gate returns how the answer for a rollout stands, for a tool that asks before
// it goes on. stage is the one that it asks about; nil asks about the one under
// way.
//
// To ask about the stage after one that was promoted is to say that it has
// begun: tools that know no more than to ask could not say it otherwise. The
// rollout then moves to it. Asking about any other stage than the one under way
// is answered with hold, unless the rollout is rolled back. The error is that
// of recording the move.
func (e *Engine) Gate(ctx context.Context, id tenant.ID, rollout string, stage *int) (verdict.Standing, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	k := rolloutKey{id.String(), rollout}
	if err := e.settled(); err != nil && !e.exists(k) {
		return verdict.Standing{State: verdict.StateUnavailable, Why: err.Error()}, nil
	}
	if !e.exists(k) {
		return verdict.Standing{State: verdict.StateUnknown, Why: fmt.Sprintf("there is no rollout %q: want POST /v1/rollouts first", rollout)}, nil
	}
	s := e.standing(k)
	t, live := e.find(k)
	if stage == nil || *stage == s.Verdict.Stage || s.State == verdict.StateRollback || !live {
		return s, nil
	}
	if *stage == t.Stage+1 && *stage < len(t.Rollout.Stages) && s.State == verdict.StatePromote {
		if err := e.command(ctx, Record{Type: TypeStage, Tenant: k.Tenant, ID: k.ID, Stage: *stage}); err != nil {
			return verdict.Standing{State: verdict.StateUnavailable, Why: "the next stage could not be recorded"}, err
		}
		return e.standing(k), nil
	}
	s.State = verdict.StateHold
	s.Why = fmt.Sprintf("stage %d was asked for; stage %d of 0 to %d is under way, and its answer is %s", *stage, t.Stage, len(t.Rollout.Stages)-1, s.Verdict.At(e.o.Now()))
	return s, nil
}

// gateTarget stands for the gates where deliveries name a target.
const gateTarget = "gate"

func gateMessage(rollout string, number uint64) string {
	return fmt.Sprintf("gate_%s_%d", rollout, number)
}

// Asked reports whether a tool asked a gate and was answered by the rollback of a
// number.
func (e *Engine) Asked(tenant, rollout string, number uint64) bool {
	_, ok := e.Report(tenant, gateTarget, gateMessage(rollout, number))
	return ok
}

// Answered keeps that a tool asked and was told a rollback, the first time: a tool
// that takes no webhook acknowledges so.
func (e *Engine) Answered(ctx context.Context, id tenant.ID, s verdict.Standing) error {
	if s.State != verdict.StateRollback || s.Verdict == nil || s.Verdict.Number == 0 || e.Asked(id.String(), s.Verdict.Rollout, s.Verdict.Number) {
		return nil
	}
	v := s.Verdict
	return e.RecordDelivery(ctx, id.String(), v.Rollout, Delivery{Target: gateTarget, Message: gateMessage(v.Rollout, v.Number), Outcome: delivered, Tries: 1, Rollback: v.Number})
}

// Begin lets a tool give the canary its first traffic, where it asks before it does,
// and reports whether it may: once for a rollout, while it stands at its first
// stage, no session of the canary was seen, and no error budget keeps it back. It is
// recorded before it is answered. An answer that is lost is a wait, and ends at the
// stage's deadline: a second yes could be one for the second step.
func (e *Engine) Begin(ctx context.Context, id tenant.ID, rollout string) (bool, error) {
	k := rolloutKey{id.String(), rollout}
	message := "begin_" + rollout
	e.mu.Lock()
	t, ok := e.find(k)
	v := e.answer(k)
	may := ok && t.Stage == 0 && t.Sessions[1] == 0 && v.Number > 0 && v.Decision == verdict.Hold && v.Reasons[0].Code != verdict.Override && len(v.Budgets) == 0 &&
		!e.told(deliveryKey{k.Tenant, gateTarget, message})
	e.mu.Unlock()
	if !may {
		return false, nil
	}
	// Two that ask at once could both be told yes to the same step; a tool asks one
	// after the other.
	if err := e.RecordDelivery(ctx, k.Tenant, rollout, Delivery{Target: gateTarget, Message: message, Outcome: delivered, Tries: 1}); err != nil {
		return false, err
	}
	return true, nil
}

// GateWeight tells that the canary of a rollout now gets a share of the
// traffic, in (0,1]. Where that is the share of the stage after one that was
// promoted, the rollout moves to it; else nothing happens.
func (e *Engine) GateWeight(ctx context.Context, id tenant.ID, rollout string, weight float64) error {
	e.mu.Lock()
	t, ok := e.find(rolloutKey{id.String(), rollout})
	next := 0
	moves := false
	if ok {
		next = t.Stage + 1
		moves = next < len(t.Rollout.Stages) && sameShare(t.Rollout.Stages[next].Weight, weight)
	}
	e.mu.Unlock()
	if !moves {
		return nil
	}
	_, err := e.Gate(ctx, id, rollout, &next)
	return err
}

// sameShare compares shares that tools write in whole percents.
func sameShare(a, b float64) bool { return a-b < 0.005 && b-a < 0.005 }

// standing returns how a rollout's answer stands now. The caller holds mu.
func (e *Engine) standing(k rolloutKey) verdict.Standing {
	v := e.answer(k)
	r := e.fold.Ended[k].Rollout
	if t, ok := e.find(k); ok {
		r = t.Rollout
	}
	return verdict.Stand(&v, v.Stage == len(r.Stages)-1, e.o.Now())
}
