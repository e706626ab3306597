package canary

import (
	"slices"

	"serin.dev/serin/analysis/evalue"
	"serin.dev/serin/analysis/session"
)

// block counts the sessions of one stratum that reached the age of report_after
// in the epochs that ended: each once, whatever came of it, which is what
// [evalue.TwoSample] asks for. Failures that are told later count nowhere.
type block struct {
	stratum  int
	sessions [2]int64
	failures [session.Metrics][2]int64
	by       []Mark
	crowds   []blockCrowd // of heavy networks
}

// blockCrowd is what one network has of a block.
type blockCrowd struct {
	network  string
	sessions [2]int64
}

// paired reports whether a guardrail's evidence is that of two samples.
func (t *Test) paired(m session.Metric) bool { return t.guardrail(m).Evidence == EvidenceTwoSample }

// enterBlock counts a session that has reached the age before the current epoch.
func (t *Test) enterBlock(s *session.Session, e session.Enrollment, current int64) {
	any := false
	for m := range session.Metrics {
		any = any || t.paired(m)
	}
	if !any {
		return
	}
	i := slices.IndexFunc(t.blocks, func(b block) bool { return b.stratum == e.Stratum })
	if i < 0 {
		i = len(t.blocks)
		t.blocks = append(t.blocks, block{stratum: e.Stratum})
	}
	b, a := &t.blocks[i], side(e.Canary)
	b.sessions[a]++
	if networks := t.ledger(); networks.heavy(e.Network) {
		j := slices.IndexFunc(b.crowds, func(c blockCrowd) bool { return c.network == e.Network })
		if j < 0 {
			j = len(b.crowds)
			b.crowds = append(b.crowds, blockCrowd{network: e.Network})
		}
		b.crowds[j].sessions[a]++
	}
	for m := range session.Metrics {
		if s.Has(m) || m == session.Telemetry && (s.Beacons <= 1 || s.Spoke >= current) {
			b.failures[m][a]++
			b.by = append(b.by, Mark{m, uint8(a), e.Network})
		}
	}
}

// closeBlocks adds the blocks to the evidence. What leaving a network out would
// do is kept, as in [Epoch.apart], each bet being what it was.
func (t *Test) closeBlocks() {
	networks := t.ledger()
	for i := range t.blocks {
		b := &t.blocks[i]
		st := &t.Strata[b.stratum]
		for m := range session.Metrics {
			if !t.paired(m) {
				continue
			}
			pair := &st.Pairs[m]
			if pair.Margin == 0 {
				*pair = evalue.NewTwoSample(t.guardrail(m).Margin)
			}
			was := *pair
			pair.AddBlock(b.failures[m][1], b.failures[m][0], b.sessions[1], b.sessions[0])
			b.apart(&was, pair, m, &networks)
		}
	}
	t.blocks = t.blocks[:0]
}

func (b *block) apart(was, with *evalue.TwoSample, m session.Metric, networks *ledger) {
	type part struct {
		failures, sessions [2]int64
		apart              bool
	}
	var order []string
	by := map[string]*part{}
	see := func(network string) *part {
		if by[network] == nil {
			by[network] = &part{}
			order = append(order, network)
		}
		return by[network]
	}
	for _, c := range b.crowds {
		p := see(c.network)
		p.sessions, p.apart = c.sessions, true
	}
	for _, mark := range b.by {
		if mark.Metric == m {
			see(mark.Network).failures[mark.Arm]++
		}
	}
	for _, network := range order {
		without, n := *was, by[network]
		keeper := networks.keeper(network, n.apart)
		if keeper == nil {
			continue
		}
		without.AddBlock(b.failures[m][1]-n.failures[1], b.failures[m][0]-n.failures[0], b.sessions[1]-n.sessions[1], b.sessions[0]-n.sessions[0])
		r := keeper.removal(m, b.stratum)
		r.Harm += without.LogHarm - with.LogHarm
		r.Safe += without.LogSafe - with.LogSafe
	}
}

// pairOf returns the evidence of two samples of a guardrail in a stratum, without
// a network.
func (t *Test) pairOf(k int, m session.Metric, drop *absent) (harm, safe float64) {
	pair := &t.Strata[k].Pairs[m]
	harm, safe = pair.LogHarm, pair.LogSafe
	drop.removals(m, k, func(r *Removal) { harm, safe = harm+r.Harm, safe+r.Safe })
	return harm, safe
}
