package canary

import (
	"math"

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

// A network is told apart in an epoch, with its sessions there, where it has
// heavySessions of an arm and one part in heavyPart of it so far. One below that
// moves the share of an arm by less than that part.
const (
	heavySessions = 5
	heavyPart     = 50
)

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

// Removal is what leaving out a network does to the evidence on one guardrail in
// one stratum.
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

// count counts what weighs weight for a network, and returns it.
func (n *Networks) count(prefix string, weight int64) *Network {
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
	n.Top[i].Count += weight
	return &n.Top[i]
}

// of returns a network, or nil where it is not among those that are kept.
func (n *Networks) of(prefix string) *Network {
	if i, ok := n.index[prefix]; ok {
		return &n.Top[i]
	}
	return nil
}

// ledger is where the evidence of an epoch without each network is kept.
type ledger struct {
	failers, senders *Networks
	sessions         [2]int64 // of the test so far, by arm
}

func (t *Test) ledger() ledger { return ledger{&t.Failers, &t.Senders, t.Sessions} }

// heavy reports whether a network's sessions are told apart.
func (l *ledger) heavy(prefix string) bool {
	n := l.senders.of(prefix)
	if n == nil {
		return false
	}
	for arm, sessions := range n.Sessions {
		if sessions >= heavySessions && sessions*heavyPart >= l.sessions[arm] {
			return true
		}
	}
	return false
}

// keeper returns where the removals of a network are kept, or nil; [absent] takes
// those of both together. One that is told apart is kept among the senders, where
// it stays: it may fail nobody, or once and be forgotten by the failers.
func (l *ledger) keeper(prefix string, apart bool) *Network {
	if apart {
		if n := l.senders.of(prefix); n != nil {
			return n
		}
	}
	return l.failers.of(prefix)
}

// remove adds to what leaving out a network does.
func (n *Network) remove(m session.Metric, stratum int, without, with evalue.Marks) {
	for i, l := range with.LogL {
		without.LogL[i] -= l
	}
	without.Canary -= with.Canary
	without.Baseline -= with.Baseline
	n.removal(m, stratum).Marks.Merge(without)
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

// absent is a network that is left out: as it is among those that fail most and
// those that send most, either of which may be nil. A nil absent leaves out none.
type absent struct{ failer, sender *Network }

// removals calls do with each of what leaving the network out does to a guardrail
// in a stratum.
func (a *absent) removals(m session.Metric, stratum int, do func(r *Removal)) {
	if a == nil {
		return
	}
	for _, n := range []*Network{a.failer, a.sender} {
		if n == nil {
			continue
		}
		for i := range n.Removals {
			if r := &n.Removals[i]; r.Metric == m && r.Stratum == stratum {
				do(r)
			}
		}
	}
}

// sentBy returns the network as one that sends, or nil.
func (a *absent) sentBy() *Network {
	if a == nil {
		return nil
	}
	return a.sender
}

// balance returns what a session of an arm weighs in the ranking of senders, for
// a planned weight of the canary: as much as the other arm's for each of it, so
// that a network that has much of a small canary is not forgotten.
func balance(canary bool, weight float64) int64 {
	if !canary {
		weight = 1 - weight
	}
	return int64(min(max(math.Round((1-weight)/weight), 1), 1000))
}
