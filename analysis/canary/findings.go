package canary

import (
	"cmp"
	"math"
	"slices"

	"serin.dev/serin/analysis/evalue"
	"serin.dev/serin/analysis/session"
	"serin.dev/serin/analysis/verdict"
)

// findings fills in the evidence on each guardrail and returns the log of the
// weighted average of the harm e-processes of the critical ones, which is one
// itself whatever their dependence.
func (t *Test) findings(v *verdict.Verdict) (harm float64) {
	var logs, weights []float64
	for m := range session.Metrics {
		g, ok := t.Rollout.Policy.Guardrails[m.String()]
		if !ok {
			continue // a rollout from before there was such a guardrail
		}
		pooled := t.pooled(m, nil)
		var failures [2]int64
		for k := range t.Strata {
			failures[0] += t.Strata[k].Failures[m][0]
			failures[1] += t.Strata[k].Failures[m][1]
		}
		e := t.harmOf(m, nil)
		if g.critical() {
			logs, weights = append(logs, e), append(weights, g.Weight)
		}
		f := verdict.Finding{Guardrail: m.String(), Sessions: arms(t.Sessions), Failures: arms(failures),
			Effect: t.effect(pooled), LogEHarm: verdict.Bound(e), LogESafe: verdict.Bound(t.safeOf(m, nil)),
			Margin: g.Margin, Required: !g.Optional}
		if g.Direction != DirectionIncrease {
			f.Direction = g.Direction
		}
		if t.ofUsers(m) {
			f.Unit, f.Sessions = UnitUser, arms(t.People.Met)
		}
		v.Findings = append(v.Findings, f)
	}
	moreLogs, moreWeights := t.numberFindings(v)
	return evalue.Mean(append(logs, moreLogs...), append(weights, moreWeights...))
}

// harm returns the log of the evidence of harm of the whole rollout without a
// network, or with all where it is nil.
func (t *Test) harm(drop *absent) float64 {
	var logs, weights []float64
	for m := range session.Metrics {
		if g, ok := t.Rollout.Policy.Guardrails[m.String()]; ok && g.critical() {
			logs, weights = append(logs, t.harmOf(m, drop)), append(weights, g.Weight)
		}
	}
	for i := range t.Numbers {
		if g := t.rule(i); g.critical() {
			logs, weights = append(logs, t.harmOfNumber(i, drop.sentBy())), append(weights, g.Weight)
		}
	}
	return evalue.Mean(logs, weights)
}

// What the places of an effect weigh, before anything is seen: most harm is
// shared, and each halving of a weight costs 0.7 nats where it is not used
// (serin lab power; statistics.md has the figures).
const (
	weightShared   = 0.8
	weightUncut    = 0.98   // the same where a policy names no strata: then only another SDK makes one
	weightCustomer = 1. / 3 // where a policy names customers; then the others share the rest
)

// places returns the weights of an effect that all strata share and of one that
// hides in one. They are of the policy, which does not change, so that no weight
// moves as strata appear.
func (t *Test) places() (shared, hidden float64) {
	shared = weightShared
	if len(t.Rollout.Policy.Strata) == 0 {
		shared = weightUncut
	}
	return shared, 1 - shared
}

// sharedPart is the part of a guardrail's alpha that is for an effect that all
// strata and customers share.
func (t *Test) sharedPart() float64 {
	shared, _ := t.places()
	if t.Rollout.Policy.Tenants != "" {
		shared *= 1 - weightCustomer
	}
	return shared
}

// harmOf returns the log of the harm e-process of a guardrail. It is an average
// of e-processes over the places where an effect can be: a product over strata
// (one that all share), an average over strata (one that hides in one), and,
// where the policy names customers, one over sets of them ([evalue.SomeOf]). The
// k-th stratum in order of appearance ([Test.rank]) weighs 1/((k+1)(k+2)), which
// sums to 1 however many come.
func (t *Test) harmOf(m session.Metric, drop *absent) float64 {
	hidden := math.Inf(-1)
	for rank, k := range t.ranked {
		hidden = logSum(hidden, t.harmIn(k, m, drop)-math.Log(float64((rank+1)*(rank+2))))
	}
	// Strata that did not appear yet stand at 1.
	hidden = logSum(hidden, -math.Log(float64(len(t.Strata)+1)))
	weightOfShared, weightOfHidden := t.places()
	placed := logSum(t.harmShared(m, drop)+math.Log(weightOfShared), hidden+math.Log(weightOfHidden))
	if t.Rollout.Policy.Tenants == "" {
		return placed
	}
	logs := make([]float64, len(t.Parts))
	for k := range t.Parts {
		logs[k] = t.worseForOne(m, t.Parts[k].Marks[m])
	}
	if drop != nil && drop.failer != nil {
		// What a network does to one customer is not kept: without it this part
		// is taken to say nothing.
		logs = nil
	}
	return logSum(placed+math.Log(1-weightCustomer), evalue.SomeOf(logs)+math.Log(weightCustomer))
}

// harmIn returns the log of the harm e-process of a guardrail in one stratum.
func (t *Test) harmIn(k int, m session.Metric, drop *absent) float64 {
	if t.paired(m) {
		harm, _ := t.pairOf(k, m, drop)
		return harm
	}
	return t.worse(m, t.marks(k, m, drop))
}

// harmShared returns that of an effect that all strata share.
func (t *Test) harmShared(m session.Metric, drop *absent) (sum float64) {
	if !t.paired(m) {
		return t.worse(m, t.pooled(m, drop))
	}
	for _, k := range t.ranked {
		harm, _ := t.pairOf(k, m, drop)
		sum += harm
	}
	return sum
}

// safeByRatio returns the log of the e-process against the null that the canary
// is worse by the margin or more: of the odds, or with two samples of the
// probability.
func (t *Test) safeByRatio(m session.Metric, g *Guardrail, drop *absent) (sum float64) {
	if !t.paired(m) {
		return t.kept(g, t.pooled(m, drop))
	}
	for _, k := range t.ranked {
		_, safe := t.pairOf(k, m, drop)
		sum += safe
	}
	return sum
}

// worse returns the log of the e-process against the null that the canary is
// not worse, by the guardrail's direction. For a decrease it is that of fewer
// failures, which is the mixture of the likelihood ratios of 1/1.25, 1/1.8 and
// 1/2.7 against 1; for either it is half of both.
func (t *Test) worse(m session.Metric, marks evalue.Marks) float64 {
	return t.directed(m, marks, t.grid.Harm(marks))
}

// worseForOne is that for one customer of many.
func (t *Test) worseForOne(m session.Metric, marks evalue.Marks) float64 {
	return t.directed(m, marks, t.grid.HarmToOne(marks))
}

// directed turns evidence of more failures into that in the guardrail's direction.
func (t *Test) directed(m session.Metric, marks evalue.Marks, more float64) float64 {
	switch t.guardrail(m).Direction {
	case DirectionDecrease:
		return t.grid.Fewer(marks)
	case DirectionEither:
		return logSum(more, t.grid.Fewer(marks)) - math.Ln2
	}
	return more
}

// kept returns the log of the e-process against the null that the canary is worse
// by the margin or more, in the guardrail's direction.
func (t *Test) kept(g *Guardrail, marks evalue.Marks) float64 {
	if g.Direction == DirectionDecrease {
		return t.grid.NotFewer(marks, g.Margin)
	}
	return t.grid.Safety(marks, g.Margin)
}

// marks returns the marks of a guardrail in a stratum, without a network.
func (t *Test) marks(k int, m session.Metric, drop *absent) evalue.Marks {
	marks := t.Strata[k].Marks[m]
	drop.removals(m, k, func(r *Removal) { marks.Merge(r.Marks) })
	return marks
}

// pooled returns the marks of a guardrail over all strata, without a network.
func (t *Test) pooled(m session.Metric, drop *absent) evalue.Marks {
	all := t.grid.NewMarks()
	for _, k := range t.ranked {
		all.Merge(t.marks(k, m, drop))
	}
	return all
}

// safeOf returns the log of the safety e-process of a guardrail, without a
// network. Its null is that the canary is worse by the
// margin and fails more than the floor: either proof suffices, so each has half
// the weight.
//
// The floor's part is the likelihood ratio of the failure share floor/4
// against floor on matured canary sessions (or users). Without it a guardrail
// that nobody fails could never be proven safe. Where fewer is harm there is no
// such share, and the first proof has all the weight.
func (t *Test) safeOf(m session.Metric, drop *absent) float64 {
	g := t.guardrail(m)
	if g.Direction == DirectionDecrease {
		return t.safeByRatio(m, g, drop)
	}
	ratio, floor := t.proofs(m, g, drop)
	return logSum(ratio, floor) - math.Ln2
}

// proofs returns the logs of the two e-processes that [Test.safeOf] averages.
func (t *Test) proofs(m session.Metric, g *Guardrail, drop *absent) (ratio, floor float64) {
	var failed int64
	for k := range t.Strata {
		failed += t.Strata[k].Failures[m][1]
	}
	matured := t.Matured[1]
	if t.ofUsers(m) {
		matured = t.People.Matured[1]
	}
	if drop != nil && drop.failer != nil {
		failed -= drop.failer.Failures[m][1]
	}
	if sender := drop.sentBy(); sender != nil {
		matured -= sender.Sessions[1]
	}
	ok := max(matured-failed, 0)
	pass, fail := floorFactors(g)
	return t.safeByRatio(m, g, drop), float64(ok)*pass + float64(failed)*fail
}

// floorFactors returns the log likelihood ratios of a session that passes and of
// one that fails, of the failure share floor/4 against floor.
func floorFactors(g *Guardrail) (pass, fail float64) {
	p0, p1 := g.Floor, g.Floor/4
	return math.Log((1 - p1) / (1 - p0)), math.Log(p1 / p0)
}

// weakest returns the log of the weakest proof of safety of a required
// guardrail, without a network.
func (t *Test) weakest(drop *absent) float64 {
	least := math.Inf(1)
	for m := range session.Metrics {
		if g, ok := t.Rollout.Policy.Guardrails[m.String()]; ok && !g.Optional {
			least = min(least, t.safeOf(m, drop))
		}
	}
	for i := range t.Numbers {
		if g := t.rule(i); !g.Optional {
			least = min(least, t.safeOfNumber(i, drop.sentBy()))
		}
	}
	return least
}

// influence looks for the network without which the evidence is least, shows
// it, and reports whether the evidence is then below what is needed.
func (t *Test) influence(v *verdict.Verdict, needed float64, evidence func(drop *absent) float64) bool {
	least := math.Inf(1)
	look := func(prefix string) {
		failer, sender := t.Failers.of(prefix), t.Senders.of(prefix)
		e := evidence(&absent{failer, sender})
		if e >= least {
			return
		}
		least = e
		n := verdict.Network{Networks: v.Network.Networks, Judged: true, Prefix: prefix, LogE: verdict.Bound(e)}
		if sender != nil {
			n.Sessions = arms(sender.Sessions)
		}
		if failer != nil {
			var x [2]int64
			for m := range session.Metrics {
				x[0] += failer.Failures[m][0]
				x[1] += failer.Failures[m][1]
			}
			n.Failures = arms(x)
		}
		v.Network = n
	}
	for i := range t.Failers.Top {
		look(t.Failers.Top[i].Prefix)
	}
	for i := range t.Senders.Top {
		if prefix := t.Senders.Top[i].Prefix; t.Failers.of(prefix) == nil {
			look(prefix)
		}
	}
	return least < needed
}

// losses shows how alike the arms are measured, and returns the loss with the
// strongest evidence that they are not, divided by the number of losses: an
// average over all, of which it is a part, is one e-process.
func (t *Test) losses(v *verdict.Verdict) (worst verdict.Loss, found bool) {
	for l := range session.Losses {
		all, lost := t.grid.NewMarks(), [2]int64{}
		for _, k := range t.ranked {
			all.Merge(t.Strata[k].Lost[l])
			lost[0] += t.Strata[k].Losses[l][0]
			lost[1] += t.Strata[k].Losses[l][1]
		}
		loss := verdict.Loss{Name: l.String(), Sessions: arms(t.Reported), Lost: arms(lost),
			Ratio: verdict.Bound(t.grid.Estimate(all)), LogE: verdict.Bound(t.grid.Unlike(all))}
		v.Losses = append(v.Losses, loss)
		if slices.Contains(t.Rollout.Policy.Unchecked, loss.Name) {
			continue
		}
		if loss.LogE -= verdict.Bound(math.Log(float64(session.Losses))); !found || loss.LogE > worst.LogE {
			worst, found = loss, true
		}
	}
	return worst, found
}

func (t *Test) effect(m evalue.Marks) verdict.Effect {
	lo, hi := t.grid.Interval(m, intervalAlpha)
	return verdict.Effect{Ratio: verdict.Bound(t.grid.Estimate(m)), Lo: verdict.Bound(lo), Hi: verdict.Bound(hi), Alpha: intervalAlpha}
}

// suspect is one hypothesis of whom to blame: a guardrail over all strata, in
// one of them, or for one customer.
type suspect struct {
	metric   session.Metric
	number   int // of a guardrail on values; -1: of the metric
	stratum  int // -1: not of one
	customer int // likewise
	logE     float64
	finding  int // of v.Findings
}

// suspects lists them, with weights that sum to 1: those with which the same
// evidence counts for a rollback, so that a rollback that one guardrail alone
// brings about names it. Guardrails that are not critical have none.
func (t *Test) suspects(v *verdict.Verdict) (all []suspect, weights []float64) {
	// One stratum by itself says what all share.
	shared, hidden := t.places()
	customer := 0.0
	if len(t.Strata) == 1 {
		shared, hidden = 0, 1
	}
	if len(t.Parts) > 0 {
		customer = weightCustomer
	}
	// 1/((k+1)(k+2)) over the strata that are there, scaled to sum to 1.
	n := float64(len(t.Strata))
	part := func(rank int) float64 { return (n + 1) / n / float64((rank+1)*(rank+2)) }
	for i, f := range v.Findings {
		g := t.Rollout.Policy.Guardrails[f.Guardrail]
		m, isRate := session.ParseMetric(f.Guardrail)
		if !g.critical() {
			continue
		}
		number := -1
		if !isRate {
			number = i - (len(v.Findings) - len(t.Numbers))
		}
		add := func(stratum, customer int, logE, weight float64) {
			all, weights = append(all, suspect{m, number, stratum, customer, logE, i}), append(weights, weight)
		}
		if !isRate {
			// Customers are told apart in shares of sessions alone.
			if shared > 0 {
				add(-1, -1, t.sharedHarm(number, nil), g.Weight*shared)
			}
			for rank, k := range t.ranked {
				e := 0.0
				if d := t.measured(number, k, nil); d != nil {
					e = d.harm(&g)
				}
				add(k, -1, e, g.Weight*hidden*part(rank))
			}
			continue
		}
		weight := g.Weight * (1 - customer)
		if shared > 0 {
			add(-1, -1, t.harmShared(m, nil), weight*shared)
		}
		for rank, k := range t.ranked {
			add(k, -1, t.harmIn(k, m, nil), weight*hidden*part(rank))
		}
		for k := range t.Parts {
			add(-1, k, t.worseForOne(m, t.Parts[k].Marks[m]), g.Weight*customer/float64(len(t.Parts)))
		}
	}
	return all, weights
}

// finding is what the evidence on a suspect looks like.
func (t *Test) finding(v *verdict.Verdict, s suspect) verdict.Finding {
	f := v.Findings[s.finding]
	f.LogEHarm, f.LogESafe, f.Margin, f.Required, f.Blamed = verdict.Bound(s.logE), 0, 0, false, false
	marks := evalue.Marks{}
	switch {
	case s.number >= 0 && s.stratum >= 0:
		g := t.rule(s.number)
		f.Stratum, f.Sessions = t.Strata[s.stratum].Name, arms([2]int64{})
		if d := t.measured(s.number, s.stratum, nil); d != nil {
			f.Effect = verdict.Effect{Ratio: verdict.Unknown, Lo: verdict.Unknown, Hi: verdict.Unknown, Alpha: intervalAlpha}
			d.show(&g, []evalue.AdjustedMeans{d.Sums}, &f)
			f.Sessions = arms(d.counted(&g))
		}
		return f
	case s.number >= 0:
		was := v.Findings[s.finding]
		f.LogESafe, f.Margin, f.Required = was.LogESafe, was.Margin, was.Required
		return f
	case s.stratum >= 0:
		st := &t.Strata[s.stratum]
		f.Stratum, f.Sessions, f.Failures, marks = st.Name, arms(st.Sessions), arms(st.Failures[s.metric]), st.Marks[s.metric]
	case s.customer >= 0:
		st := &t.Parts[s.customer]
		f.Customer, f.Sessions, f.Failures, marks = st.Name, arms(st.Sessions), arms(st.Failures[s.metric]), st.Marks[s.metric]
	default:
		g := t.guardrail(s.metric)
		f.LogESafe, f.Margin, f.Required = v.Findings[s.finding].LogESafe, g.Margin, !g.Optional
		marks = t.pooled(s.metric, nil)
	}
	f.Effect = t.effect(marks)
	return f
}

// maxBlame bounds how many are named in one verdict; the strongest are.
const maxBlame = 64

// blame names the guardrails, strata and customers whose current evidence
// weighted e-BH rejects at alpha, strongest first, and measures the blast radius
// by the first of them.
func (t *Test) blame(v *verdict.Verdict) {
	v.Radius = verdict.Radius{Sessions: t.Sessions[1], Users: int64(math.Round(t.Users.Estimate()))}
	all, weights := t.suspects(v)
	logs := make([]float64, len(all))
	for i := range logs { // weighted e-BH (Wang & Ramdas 2022, section 4.4): the weights sum to the number of hypotheses
		logs[i] = all[i].logE + math.Log(weights[i]*float64(len(logs)))
	}
	named := map[int]bool{}
	for _, i := range evalue.EBH(logs, t.Rollout.Policy.Alpha) {
		named[i] = true
	}
	// Evidence in one place tells a person more than nearly the same over all.
	telling := func(i int) float64 {
		if all[i].stratum >= 0 || all[i].customer >= 0 {
			return all[i].logE + 1
		}
		return all[i].logE
	}
	order := make([]int, len(all))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(telling(j), telling(i)) })
	blamed := map[int]bool{} // findings
	for n, i := range order {
		blamed[all[i].finding] = blamed[all[i].finding] || named[i]
		// Where the rollout's evidence suffices, what tells most is shown, if not marked.
		if !named[i] && (n > 0 || float64(v.LogEHarm) < v.LogNeeded) || len(v.Blame) == maxBlame {
			continue
		}
		f := t.finding(v, all[i])
		f.Blamed = named[i]
		v.Blame = append(v.Blame, f)
	}
	for i := range v.Findings {
		v.Findings[i].Blamed = blamed[i]
	}
	if f := worst(v); f != nil {
		x := float64(f.Failures.Canary)
		excess := func(ratio verdict.Bound) verdict.Bound {
			if ratio <= 0 {
				return verdict.Bound(math.Inf(-1))
			}
			return verdict.Bound(x * (1 - 1/float64(ratio)))
		}
		r := &v.Radius
		r.Excess, r.ExcessLo, r.ExcessHi = excess(f.Effect.Ratio), excess(f.Effect.Lo), excess(f.Effect.Hi)
		if f.Direction == DirectionDecrease { // the harm is those that are missing
			r.Excess, r.ExcessLo, r.ExcessHi = -r.Excess, -r.ExcessHi, -r.ExcessLo
		}
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
