package canary

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"serin.dev/serin/analysis/evalue"
	"serin.dev/serin/analysis/session"
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
}

// Decide answers for the current stage. Number is left 0: it belongs to the
// record. A rollback latches in the test ([Test.Latch]); asking changes nothing else.
//
// The order of the rules is the safety argument: a rollback that was given
// stays; a person's decision goes before the evidence; a sample ratio that is
// not as planned forbids to judge metrics; harm goes before the deadline, and
// proof of safety before it, too, for a tool that was slow to ask.
func (t *Test) Decide(q Question) verdict.Verdict {
	r := &t.Rollout
	p := &r.Policy
	stage := r.Stages[t.Stage]
	v := verdict.Verdict{Version: 1, Tenant: t.Tenant, Rollout: r.ID, App: r.App, Change: r.Change,
		Canary: r.Canary, Baseline: r.Baseline, Stage: t.Stage, Weight: stage.Weight, Policy: r.Digest(),
		IssuedAt: time.UnixMilli(q.At).UTC(), ValidUntil: time.UnixMilli(q.At + p.Lease.ms()).UTC(), Position: q.Position,
		Sessions: arms(t.Sessions), LogNeeded: math.Log(1 / p.Alpha), LogERatio: verdict.Bound(t.Ratio.LogE())}
	harm := t.findings(&v)
	v.LogEHarm = verdict.Bound(harm)
	t.blame(&v)

	inStage := q.At - t.Staged
	late := inStage >= stage.Deadline.ms()
	ratioOff := t.Ratio.LogE() >= math.Log(1/p.RatioAlpha)
	var missing []string // required guardrails without proof of safety
	for _, f := range v.Findings {
		if f.Required && float64(f.LogESafe) < math.Log(1/p.Beta) {
			missing = append(missing, f.Guardrail)
		}
	}
	sdk, unlike := t.unlike()
	unequal := t.Lost.LogE() >= math.Log(1/p.RatioAlpha)
	safe := len(missing) == 0 && !q.Behind && !unlike && !unequal && t.Sessions[1] >= stage.MinSessions && inStage >= stage.Dwell.ms()
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
	case harm >= v.LogNeeded && !ratioOff:
		say(verdict.Rollback, verdict.Harm, "the evidence of harm reached %.3g, over the %.3g that alpha %g asks for",
			math.Exp(min(harm, 300)), 1/p.Alpha, p.Alpha)
	case ratioOff && !late:
		say(verdict.Hold, verdict.SampleRatio, "%d of %d sessions are on the canary where %.3g %% were planned: something loses or misroutes sessions, so the metrics are not judged",
			t.Sessions[1], t.Sessions[0]+t.Sessions[1], 100*stage.Weight)
	case unequal && !late:
		say(verdict.Hold, verdict.UnequalLoss, "%d canary and %d baseline sessions lost events to shedding, which is not how the sessions are shared: what is left cannot be compared",
			t.Lost.Canary, t.Lost.Baseline)
	case unlike && !late:
		say(verdict.Hold, verdict.Instruments, "%d of %d canary sessions are measured by %s, which measures %d of the baseline's: SDKs disagree, so only sessions of the same SDK are compared, and too few are",
			sdk.Sessions[1], t.Sessions[1], sdk.SDK, sdk.Sessions[0])
	case safe && !ratioOff:
		say(verdict.Promote, verdict.Safe, "every required guardrail is proven not worse than its margin")
	case late:
		d := verdict.Rollback
		if stage.OnDeadline == DeadlineHold || stage.OnDeadline == "" && p.OnDeadline == DeadlineHold {
			d = verdict.Hold
		}
		say(d, verdict.Deadline, "the stage's deadline of %v passed without proof of safety", time.Duration(stage.Deadline))
		if unlike {
			say(d, verdict.Instruments, "the canary is measured by %s and the baseline is not", sdk.SDK)
		}
		if unequal {
			say(d, verdict.UnequalLoss, "the arms lost events to shedding unequally")
		}
		if ratioOff {
			say(d, verdict.SampleRatio, "the sample ratio is not as planned")
		} else if len(missing) > 0 {
			say(d, verdict.Evidence, "not proven: %v", missing)
		}
	case t.Sessions[0] == 0 || t.Sessions[1] == 0:
		say(verdict.Hold, verdict.NoExposure, "no sessions of %s were seen yet", t.unseen())
	case q.Behind:
		say(verdict.Hold, verdict.Stale, "the analysis is behind the journal")
	case t.Sessions[1] < stage.MinSessions || inStage < stage.Dwell.ms():
		say(verdict.Hold, verdict.Collecting, "%d of %d canary sessions, %v of %v in the stage", t.Sessions[1], stage.MinSessions,
			time.Duration(inStage)*time.Millisecond/time.Second*time.Second, time.Duration(stage.Dwell))
	default:
		say(verdict.Hold, verdict.Evidence, "not proven yet: %v", missing)
	}
	t.Latch(&v)
	v.Sentence = sentence(&v)
	return v
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

// findings fills in the evidence on each guardrail and returns the log of the
// weighted average of their harm e-processes, which is one itself whatever
// their dependence. Within a guardrail half the weight is on the product over
// strata (an effect that all share), and half on an average over strata (an
// effect that hides in one); the k-th stratum in order of appearance weighs
// 1/((k+1)(k+2)), which sums to 1 however many come.
func (t *Test) findings(v *verdict.Verdict) (harm float64) {
	var logs, weights []float64
	for m := range session.Metrics {
		g := t.guardrail(m)
		pooled := t.pooled(m)
		hidden, failures := math.Inf(-1), [2]int64{}
		for k := range t.Strata {
			st := &t.Strata[k]
			hidden = logSum(hidden, t.grid.Harm(st.Marks[m])-math.Log(float64((k+1)*(k+2))))
			failures[0] += st.Failures[m][0]
			failures[1] += st.Failures[m][1]
		}
		// Strata that did not appear yet stand at 1.
		hidden = logSum(hidden, -math.Log(float64(len(t.Strata)+1)))
		e := logSum(t.grid.Harm(pooled), hidden) - math.Ln2
		logs, weights = append(logs, e), append(weights, g.Weight)
		v.Findings = append(v.Findings, verdict.Finding{Guardrail: m.String(), Sessions: arms(t.Sessions), Failures: arms(failures),
			Effect: t.effect(pooled), LogEHarm: verdict.Bound(e), LogESafe: verdict.Bound(t.safe(m, g, pooled, failures[1])),
			Margin: g.Margin, Required: !g.Optional})
	}
	return evalue.Mean(logs, weights)
}

// pooled returns the marks of a guardrail over all strata.
func (t *Test) pooled(m session.Metric) evalue.Marks {
	all := t.grid.NewMarks()
	for k := range t.Strata {
		all.Merge(t.Strata[k].Marks[m])
	}
	return all
}

// safe returns the log of the safety e-process of a guardrail. Its null is
// that the canary is worse by the margin and fails more than the floor: either
// proof suffices, so each has half the weight.
//
// The floor's part is the likelihood ratio of the failure share floor/4
// against floor on matured canary sessions. Without it a guardrail that
// nobody fails could never be proven safe.
func (t *Test) safe(m session.Metric, g Guardrail, pooled evalue.Marks, failed int64) float64 {
	p0, p1 := g.Floor, g.Floor/4
	ok := max(t.Matured[1]-failed, 0)
	floor := float64(ok)*math.Log((1-p1)/(1-p0)) + float64(failed)*math.Log(p1/p0)
	return logSum(t.grid.Safety(pooled, g.Margin), floor) - math.Ln2
}

func (t *Test) effect(m evalue.Marks) verdict.Effect {
	lo, hi := t.grid.Interval(m, intervalAlpha)
	return verdict.Effect{Ratio: verdict.Bound(t.grid.Estimate(m)), Lo: verdict.Bound(lo), Hi: verdict.Bound(hi), Alpha: intervalAlpha}
}

// blame names the guardrails and strata whose current evidence weighted e-BH
// rejects at alpha, strongest first, and measures the blast radius by the first
// of them. The weights are those with which the same evidence counts for a
// rollback, so that a rollback that one guardrail alone brings about names it.
func (t *Test) blame(v *verdict.Verdict) {
	v.Radius = verdict.Radius{Sessions: t.Sessions[1], Users: int64(math.Round(t.Users.Estimate()))}
	var all []verdict.Finding
	var logs, weights []float64
	for m := range session.Metrics {
		weight := t.guardrail(m).Weight
		if len(t.Strata) > 1 { // else the one stratum says the same
			weight /= 2
			f := v.Findings[m]
			f.Effect, f.LogEHarm = verdict.Effect{}, verdict.Bound(t.grid.Harm(t.pooled(m)))
			all, logs, weights = append(all, f), append(logs, float64(f.LogEHarm)), append(weights, weight)
		}
		for k := range t.Strata {
			st := &t.Strata[k]
			e := t.grid.Harm(st.Marks[m])
			all = append(all, verdict.Finding{Guardrail: m.String(), Stratum: st.Name, Sessions: arms(st.Sessions),
				Failures: arms(st.Failures[m]), LogEHarm: verdict.Bound(e)})
			logs = append(logs, e)
			// 1/((k+1)(k+2)) over the strata that are there, scaled to sum to 1.
			n := float64(len(t.Strata))
			weights = append(weights, weight*(n+1)/n/float64((k+1)*(k+2)))
		}
	}
	for i := range logs { // weighted e-BH (Wang & Ramdas 2022, section 4.4): the weights sum to the number of hypotheses
		logs[i] += math.Log(weights[i] * float64(len(logs)))
	}
	named := map[int]bool{}
	for _, i := range evalue.EBH(logs, t.Rollout.Policy.Alpha) {
		named[i] = true
	}
	// Evidence in one stratum tells a person more than nearly the same over all.
	telling := func(i int) float64 {
		e := float64(all[i].LogEHarm)
		if all[i].Stratum != "" {
			e++
		}
		return e
	}
	order := make([]int, len(all))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(telling(j), telling(i)) })
	for n, i := range order {
		// Where the rollout's evidence suffices, what tells most is shown, if not marked.
		if !named[i] && (n > 0 || float64(v.LogEHarm) < v.LogNeeded) {
			continue
		}
		f := all[i]
		m, _ := session.ParseMetric(f.Guardrail)
		marks := t.pooled(m)
		if f.Stratum != "" {
			marks = t.Strata[t.index[f.Stratum]].Marks[m]
		}
		f.Effect, f.Blamed = t.effect(marks), named[i]
		v.Blame = append(v.Blame, f)
	}
	for i := range v.Findings {
		v.Findings[i].Blamed = slices.ContainsFunc(v.Blame, func(f verdict.Finding) bool { return f.Blamed && f.Guardrail == v.Findings[i].Guardrail })
	}
	if f := worst(v); f != nil {
		x := float64(f.Failures.Canary)
		excess := func(ratio verdict.Bound) verdict.Bound {
			if ratio <= 0 {
				return verdict.Bound(math.Inf(-1))
			}
			return verdict.Bound(x * (1 - 1/float64(ratio)))
		}
		v.Radius.Excess, v.Radius.ExcessLo, v.Radius.ExcessHi = excess(f.Effect.Ratio), excess(f.Effect.Lo), excess(f.Effect.Hi)
	}
}

// worst returns the finding that a verdict should name: the most blamed one,
// or else the guardrail with the most evidence of harm.
func worst(v *verdict.Verdict) *verdict.Finding {
	if len(v.Blame) > 0 {
		return &v.Blame[0]
	}
	if len(v.Findings) == 0 {
		return nil
	}
	f := slices.MaxFunc(v.Findings, func(a, b verdict.Finding) int { return cmp.Compare(a.LogEHarm, b.LogEHarm) })
	return &f
}

var failing = map[string]string{
	"error_free":  "sessions with an uncaught error",
	"lcp_good":    "sessions with a slow LCP",
	"inp_good":    "sessions with a slow INP",
	"cls_good":    "sessions with a poor CLS",
	"requests_ok": "sessions with a failed request",
	"telemetry":   "sessions that went silent after their exposure",
}

func sentence(v *verdict.Verdict) string {
	switch {
	case v.Decision == verdict.Rollback && v.Reasons[0].Code == verdict.Harm:
		f := worst(v)
		where := "in all strata"
		if f.Stratum != "" {
			where = "on " + f.Stratum
		}
		return fmt.Sprintf("Roll back %s: %s are %s as common %s as with %s; %d canary sessions of about %d users were exposed.",
			v.Change, failing[f.Guardrail], times(f.Effect), where, v.Baseline, v.Radius.Sessions, v.Radius.Users)
	case v.Decision == verdict.Rollback:
		return fmt.Sprintf("Roll back %s: %s.", v.Change, v.Reasons[0].Text)
	case v.Decision == verdict.Promote:
		return fmt.Sprintf("Promote %s past %.3g %%: %s.", v.Change, 100*v.Weight, v.Reasons[0].Text)
	}
	return fmt.Sprintf("Hold %s at %.3g %%: %s.", v.Change, 100*v.Weight, v.Reasons[0].Text)
}

func times(e verdict.Effect) string {
	if math.IsInf(float64(e.Hi), 1) || math.IsNaN(float64(e.Hi)) {
		return fmt.Sprintf("%.1f times (at least %.1f)", float64(e.Ratio), float64(e.Lo))
	}
	return fmt.Sprintf("%.1f times (%.1f to %.1f)", float64(e.Ratio), float64(e.Lo), float64(e.Hi))
}
