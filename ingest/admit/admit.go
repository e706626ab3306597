// Package admit decides what of a decoded beacon is let in: it holds the
// beacon against what its key allows, and its times against the server's
// clock. It names no transport: the edge turns its answers into statuses.
package admit

import (
	"fmt"
	"slices"

	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/tenant"
)

// skewMS is how far a client's clock may be behind, at the time of sending,
// before its times are corrected by the difference; below it network delay
// would be taken for skew. One that is ahead is ahead for certain: it is
// corrected as soon as its events would be from the future.
const skewMS = 5 * 60_000

// Rejection says why one event, or the whole beacon (Index -1), is not
// admitted.
type Rejection struct {
	Index  int
	Reason event.Reason
	Field  string
	Value  string
	Want   string
}

// Error names the field, the value and what is allowed.
func (r *Rejection) Error() string { return fmt.Sprintf("%s: %s: want %s", r.Field, r.Value, r.Want) }

// Beacon checks b against a grant, says in it what the edge knows of its client
// c, corrects its times in place, and scrubs its texts as the tenant wants. m may
// be nil; now is the receive time in Unix ms. It returns a rejection of the whole beacon, or
// those of single events, which it has taken out of b; indexes count the events
// that b had. A whole beacon that is refused for [event.ReasonPrivacy] is
// nobody's fault: it is answered like one that is taken.
func Beacon(g *tenant.Grant, c *Client, m *Memo, b *event.Beacon, now int64) (whole *Rejection, events []Rejection) {
	if g.App != "" && g.App != b.App {
		return &Rejection{Index: -1, Reason: event.ReasonApp, Field: "app", Value: b.App, Want: "the app of the key: " + g.App}, nil
	}
	// A client may lower its privilege below its key's and never raise it.
	if most, err := event.ParseTenancy(g.Tenancy); err != nil || b.Tenancy < most {
		return &Rejection{Index: -1, Reason: event.ReasonTenancy, Field: "tenancy", Value: b.Tenancy.String(), Want: g.Tenancy + " at most, as the key allows"}, nil
	}
	if r := c.identify(g, b); r != nil {
		return r, nil
	}
	b.Received = now
	skew := now - b.Sent
	if skew >= -event.MaxFutureMS && skew < skewMS {
		skew = 0
	}
	kept := b.Events[:0]
	for i := range b.Events {
		e := &b.Events[i]
		if at := e.Time + skew; at > now+event.MaxFutureMS || at < now-event.MaxAgeMS {
			events = append(events, Rejection{Index: i, Reason: event.ReasonClock, Field: fmt.Sprintf("events[%d].t", i),
				Value: fmt.Sprint(b.Events[i].Time), Want: "at most 7 days before and 60 s after it is received, by the client's own clock"})
			continue
		}
		e.Time += skew
		if len(kept) < i { // copied only behind one that is left out
			b.Events[len(kept)] = *e
		}
		kept = b.Events[:len(kept)+1]
	}
	clear(b.Events[len(kept):])
	b.Events = kept
	Scrub(g.Scrub, m, b)
	disguise(g, b)
	return nil, slices.Clip(events)
}
