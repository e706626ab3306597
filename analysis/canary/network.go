package canary

import (
	"serin.dev/serin/analysis/evalue"
	"serin.dev/serin/analysis/session"
)

// maxNetworks is how many networks are told apart, of those that send most and
// of those that fail most. A network that is not among them has at most one
// part in maxNetworks of all that was counted.
const maxNetworks = 64

// minNetworks is how many networks a rollout must have seen for the influence
// of one to be judged: with fewer, one of them may well be most of the users.
// An attacker can add networks but take none away.
const minNetworks = 20

// Network is what one network, by the keyed hash of its prefix, has brought. All
// clients whose network is not known are one.
type Network struct {
	Prefix   string
	Count    int64                     // what it is ranked by; at most Error too high
	Error    int64                     //
	Sessions [2]int64                  // by arm: baseline, canary
	Failures [session.Metrics][2]int64 //
	Removals []Removal
	Shares   []Share // of the guardrails on values, since the stage began
}

// Removal is what leaving out a network's failures does to the evidence on one
// guardrail in one stratum.
type Removal struct {
	Metric  session.Metric
	Stratum int
	Marks   evalue.Marks // to be added
	// Harm and Safe are to be added to the logs of a [evalue.TwoSample].
	Harm, Safe float64
}

// Networks are the networks with the highest counts: the space-saving sketch of
// Metwally, Agrawal and El Abbadi (Efficient computation of frequent and top-k
// elements in data streams, 2005). It is a function of what was counted, in its
// order, and kept in checkpoints.
type Networks struct {
	Top   []Network
	index map[string]int
}

func (n *Networks) restore() {
	n.index = make(map[string]int, len(n.Top))
	for i := range n.Top {
		n.index[n.Top[i].Prefix] = i
	}
}

// count counts one for a network, and returns it.
func (n *Networks) count(prefix string) *Network {
	i, ok := n.index[prefix]
	if !ok {
		if i = len(n.Top); i < maxNetworks {
			n.Top = append(n.Top, Network{Prefix: prefix})
		} else {
			i = 0
			for k := range n.Top {
				if n.Top[k].Count < n.Top[i].Count {
					i = k
				}
			}
			delete(n.index, n.Top[i].Prefix)
			n.Top[i] = Network{Prefix: prefix, Count: n.Top[i].Count, Error: n.Top[i].Count}
		}
		n.index[prefix] = i
	}
	n.Top[i].Count++
	return &n.Top[i]
}

// of returns a network, or nil where it is not among those that are kept.
func (n *Networks) of(prefix string) *Network {
	if i, ok := n.index[prefix]; ok {
		return &n.Top[i]
	}
	return nil
}

// remove adds to what leaving out a network's failures does.
func (n *Networks) remove(prefix string, m session.Metric, stratum int, without, with evalue.Marks) {
	network := n.of(prefix)
	if network == nil {
		return
	}
	for i, l := range with.LogL {
		without.LogL[i] -= l
	}
	without.Canary -= with.Canary
	without.Baseline -= with.Baseline
	network.removal(m, stratum).Marks.Merge(without)
}

// removal returns what leaving the network out does to a guardrail in a stratum,
// which is made on first sight.
func (n *Network) removal(m session.Metric, stratum int) *Removal {
	for i := range n.Removals {
		if r := &n.Removals[i]; r.Metric == m && r.Stratum == stratum {
			return r
		}
	}
	n.Removals = append(n.Removals, Removal{Metric: m, Stratum: stratum})
	return &n.Removals[len(n.Removals)-1]
}

// apply adds to the marks of a guardrail in a stratum what leaving out the
// network does; without a network it is nothing.
func (n *Network) apply(to *evalue.Marks, m session.Metric, stratum int) {
	if n == nil {
		return
	}
	for i := range n.Removals {
		if r := &n.Removals[i]; r.Metric == m && r.Stratum == stratum {
			to.Merge(r.Marks)
		}
	}
}
