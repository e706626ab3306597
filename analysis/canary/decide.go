package canary

import (
	"fmt"
	"math"
	"strings"
	"time"

	"serin.dev/serin/analysis/verdict"
)

// intervalAlpha is the level of the intervals that a verdict shows. They
// inform; no decision is taken on them.
const intervalAlpha = 0.05

// Question is what a decision needs to know beside the evidence.
type Question struct {
	At       int64  // Unix ms
	Position uint64 // journal position up to which the test has folded
	Behind   bool   // the journal holds rows that the test has not folded in time
	// Beside are the other changes that are under way on the app, sorted.
	Beside []string
	// Budgets are the policy's objectives whose error budget lets no stage go on, by
	// name; Spend is what the rollout spent of its own part of one, nil where the
	// policy has none.
	Budgets []verdict.Withheld
	Spend   *verdict.Spend
}

// Decide answers for the current stage. Number is left 0: it belongs to the
// record. A rollback latches in the test ([Test.Latch]); asking changes nothing else.
//
// The order of the rules is the safety argument: a rollback that was given
// stays; a person's decision goes before the evidence; a sample ratio that is
// not as planned forbids to judge metrics; harm goes before the deadline, and
// proof of safety before it, too, for a tool that was slow to ask. While the analysis
// is behind the journal no deadline has passed: that is our fault, not the canary's. What rests on
// one network is neither. An error budget keeps back a promote, a person's too,
// and nothing else: an exception from it is a record of its own.
func (t *Test) Decide(q Question) verdict.Verdict {
	r := &t.Rollout
	p := &r.Policy
	stage := r.Stages[t.Stage]
	v := verdict.Verdict{Version: 1, Tenant: t.Tenant, Rollout: strings.TrimSuffix(r.ID, ShadowSuffix), Shadow: t.Shadow(), App: r.App, Change: r.Change,
		Canary: r.Canary, Baseline: r.Baseline, Stage: t.Stage, Weight: stage.Weight, Policy: r.Digest(), PolicyName: p.Name, Revision: p.Revision,
		IssuedAt: time.UnixMilli(q.At).UTC(), ValidUntil: time.UnixMilli(q.At + p.Lease.ms()).UTC(), Position: q.Position,
		Sessions: arms(t.Sessions), LogNeeded: math.Log(1 / p.Alpha), LogERatio: verdict.Bound(t.Ratio.LogE())}
	v.Confounded, v.Budgets, v.Spend = q.Beside, q.Budgets, q.Spend
	if p.Allocation == AllocationFree {
		v.Observational = "sessions come to the arms in ways that nobody planned, so that who takes the change up first differs in more than the change"
	}
	s := t.state(&v, q)
	spent := overspent(q.Spend)
	spendIsOnes := spent && v.Network.Judged && spentByOne(q.Spend)
	if spendIsOnes && (s.fault == nil || s.fault.Code == verdict.Advisory) {
		a := q.Spend.Alone
		s.fault = &verdict.Reason{Code: verdict.Influence, Text: fmt.Sprintf("what it spent of the error budget of %s rests on the network %q, of %d units on the canary, %d of them bad, and %d on the baseline: without it no more than the %.3g %% that it may spend is proven",
			q.Spend.SLO, a.Prefix, a.Canary, a.Bad, a.Baseline, 100*q.Spend.Limit/q.Spend.Allowed)}
	}
	say := func(d verdict.Decision, c verdict.Code, format string, a ...any) {
		v.Decision = d
		v.Reasons = append(v.Reasons, verdict.Reason{Code: c, Text: fmt.Sprintf(format, a...)})
	}
	switch {
	case t.ForcedBy != nil:
		if err := v.Decision.UnmarshalText([]byte(t.ForcedBy.Decision)); err != nil {
			panic("BUG: an override that was not checked: " + err.Error())
		}
		say(v.Decision, verdict.Override, "%s decided %s: %s", t.ForcedBy.Who, t.ForcedBy.Decision, t.ForcedBy.Why)
	case t.Latched:
		v.Decision, v.Reasons = verdict.Rollback, []verdict.Reason{t.Why}
	case s.harmed() && !s.harmIsOnes:
		say(verdict.Rollback, verdict.Harm, "the evidence of harm reached %.3g, over the %.3g that alpha %g asks for",
			math.Exp(min(s.harm, 300)), 1/p.Alpha, p.Alpha)
	case spent && !spendIsOnes && !s.harmIsOnes && (s.fault == nil || s.fault.Code != verdict.SampleRatio):
		say(verdict.Rollback, verdict.Overspent, "it spent %.3g %% of the error budget of %s by its excess, at least %.3g %%, and may spend %.3g %%",
			100*float64(q.Spend.Excess)/q.Spend.Allowed, q.Spend.SLO, 100*float64(q.Spend.Lo)/q.Spend.Allowed, 100*q.Spend.Limit/q.Spend.Allowed)
	case s.fault != nil && !s.late:
		say(verdict.Hold, s.fault.Code, "%s", s.fault.Text)
	case s.safe():
		say(verdict.Promote, verdict.Safe, "every required guardrail is proven not worse than its margin")
	case s.late:
		d := verdict.Rollback
		if stage.OnDeadline == DeadlineHold || stage.OnDeadline == "" && p.OnDeadline == DeadlineHold {
			d = verdict.Hold
		}
		say(d, verdict.Deadline, "the stage's deadline of %v passed without proof of safety", time.Duration(stage.Deadline))
		if s.fault != nil {
			say(d, s.fault.Code, "%s", s.fault.Text)
		} else if len(s.missing) > 0 {
			say(d, verdict.Evidence, "not proven: %v", s.missing)
		}
	case q.Behind:
		say(verdict.Hold, verdict.Stale, "the analysis is behind the journal")
	case t.Sessions[0] == 0 || t.Sessions[1] == 0:
		say(verdict.Hold, verdict.NoExposure, "no sessions of %s were seen yet", t.unseen())
	case !s.exposed:
		say(verdict.Hold, verdict.Collecting, "%d of %d canary sessions, %v of %v in the stage", t.Sessions[1], stage.MinSessions,
			time.Duration(q.At-t.Staged)*time.Millisecond/time.Second*time.Second, time.Duration(stage.Dwell))
	default:
		say(verdict.Hold, verdict.Evidence, "not proven yet: %v", s.missing)
	}
	if v.Decision == verdict.Promote && len(q.Budgets) > 0 {
		held := v.Reasons
		v.Reasons = nil
		say(verdict.Hold, verdict.BudgetHolds, "%s", q.Budgets[0].Why)
		v.Reasons = append(v.Reasons, held...)
	} else if v.Decision == verdict.Hold && t.ForcedBy == nil && !s.late {
		t.outlook(&v, q)
	}
	t.Latch(&v)
	v.Sentence = sentence(&v)
	return v
}

// state is what the rules of a decision look at.
type state struct {
	harm, needed float64  // log e-value of harm, and what rolls back
	harmIsOnes   bool     // it is, and would not be without one network
	missing      []string // required guardrails without proof of safety
	exposed      bool     // the minimum of sessions and the dwell are reached
	behind, late bool
	fault        *verdict.Reason // what is wrong with the data or the evidence, first in order
}

func (s *state) harmed() bool {
	return s.harm >= s.needed && (s.fault == nil || s.fault.Code != verdict.SampleRatio)
}

func (s *state) safe() bool {
	return s.fault == nil && len(s.missing) == 0 && s.exposed && !s.behind
}

// state gathers the evidence, shows it in the verdict, and looks for faults.
func (t *Test) state(v *verdict.Verdict, q Question) state {
	p := &t.Rollout.Policy
	stage := t.Rollout.Stages[t.Stage]
	inStage := q.At - t.Staged
	// A deadline waits for the journal: what is not folded yet may be the proof.
	s := state{needed: v.LogNeeded, behind: q.Behind, late: inStage >= stage.Deadline.ms() && !q.Behind,
		exposed: t.Sessions[1] >= stage.MinSessions && inStage >= stage.Dwell.ms()}
	s.harm = t.findings(v)
	v.LogEHarm = verdict.Bound(s.harm)
	t.blame(v)
	for _, f := range v.Findings {
		if f.Required && float64(f.LogESafe) < math.Log(1/p.Beta) {
			s.missing = append(s.missing, f.Guardrail)
		}
	}
	s.fault = t.fault(v)
	v.Network = verdict.Network{Networks: len(t.Senders.Top), Judged: len(t.Senders.Top) >= minNetworks && p.Influence == InfluenceHold, LogE: verdict.Unknown}
	if !v.Network.Judged {
		return s
	}
	switch {
	case s.harmed():
		s.harmIsOnes = t.influence(v, s.needed, t.harm)
	case s.safe():
		if t.influence(v, math.Log(1/p.Beta), t.weakest) {
			s.fault = &verdict.Reason{Code: verdict.Influence}
		}
	}
	if s.harmIsOnes && s.fault == nil {
		s.fault = &verdict.Reason{Code: verdict.Influence}
	}
	if s.fault != nil && s.fault.Code == verdict.Influence {
		s.fault.Text = fmt.Sprintf("without the network %q, of %d sessions and %d failures, the verdict would be another: the evidence without it is %.3g",
			v.Network.Prefix, v.Network.Sessions.Canary+v.Network.Sessions.Baseline, v.Network.Failures.Canary+v.Network.Failures.Baseline,
			math.Exp(min(float64(v.Network.LogE), 300)))
	}
	return s
}

// fault returns what forbids to promote, if anything, most fundamental first.
func (t *Test) fault(v *verdict.Verdict) *verdict.Reason {
	p := &t.Rollout.Policy
	off := math.Log(1 / p.RatioAlpha)
	reason := func(c verdict.Code, format string, a ...any) *verdict.Reason {
		return &verdict.Reason{Code: c, Text: fmt.Sprintf(format, a...)}
	}
	if t.Ratio.LogE() >= off {
		return reason(verdict.SampleRatio, "%d of %d sessions are on the canary where %.3g %% were planned: something loses or misroutes sessions, so the metrics are not judged",
			t.Sessions[1], t.Sessions[0]+t.Sessions[1], 100*t.Rollout.Stages[t.Stage].Weight)
	}
	if t.Lost.LogE() >= off {
		return reason(verdict.UnequalLoss, "%d canary and %d baseline sessions lost events to shedding, which is not how the sessions are shared: what is left cannot be compared",
			t.Lost.Canary, t.Lost.Baseline)
	}
	if sdk, unlike := t.unlike(); unlike {
		return reason(verdict.Instruments, "%d of %d canary sessions are measured by %s, which measures %d of the baseline's: SDKs disagree, so only sessions of the same SDK are compared, and too few are",
			sdk.Sessions[1], t.Sessions[1], sdk.SDK, sdk.Sessions[0])
	}
	l, found := t.losses(v)
	if boot := t.bootFault(v); boot != nil {
		return boot
	}
	if found && float64(l.LogE) >= off {
		return reason(verdict.Missing, "%s: %d of %d canary sessions and %d of %d of the baseline's: the arms are not measured alike, so that what is left cannot be compared",
			losing[l.Name], l.Lost.Canary, l.Sessions.Canary, l.Lost.Baseline, l.Sessions.Baseline)
	}
	for i := range v.Findings {
		f := &v.Findings[i]
		g := t.Rollout.Policy.Guardrails[f.Guardrail]
		if !g.critical() && float64(f.LogEHarm) >= v.LogNeeded {
			return reason(verdict.Advisory, "%s on the canary; that guardrail is not critical, so it does not roll back", harmOn(f))
		}
	}
	return nil
}

// Latch makes a rollback that was given stay given, for the reason that it was
// given for, whatever is found later. A person's rollback is not one: it ends
// when it is withdrawn.
func (t *Test) Latch(v *verdict.Verdict) {
	if v.Decision == verdict.Rollback && v.Reasons[0].Code != verdict.Override && !t.Latched {
		t.Latched, t.Why = true, v.Reasons[0]
	}
}

func (t *Test) unseen() string {
	switch {
	case t.Sessions[0]+t.Sessions[1] == 0:
		return "either arm"
	case t.Sessions[0] == 0:
		return "the baseline (" + t.Rollout.Baseline + ")"
	}
	return "the canary (" + t.Rollout.Canary + ")"
}

func arms(n [2]int64) verdict.Arms { return verdict.Arms{Canary: n[1], Baseline: n[0]} }
