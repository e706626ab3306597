package slo

import (
	"fmt"
	"testing"

	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/store/batch"
	"serin.dev/serin/internal/tenant"
)

// rows makes batches of one beacon each.
type rows struct {
	t   testing.TB
	id  tenant.ID
	pos uint64
}

func newRows(t testing.TB) *rows {
	id, err := tenant.Stored("t")
	if err != nil {
		t.Fatal(err)
	}
	return &rows{t: t, id: id}
}

// beacon gives a book one beacon.
func (w *rows) beacon(b *Book, bc *event.Beacon, first bool) {
	w.pos++
	bt := batch.New(batch.Partition{Tenant: w.id, App: bc.App, Release: bc.Release})
	bt.Append(w.pos, 0, bc)
	b.Advance(bc.Received)
	b.Beacon(bt, 0, bt.Len(), first)
}

// row gives a book one request of a session.
func (w *rows) row(b *Book, release, arms, platform string, session int, received, at int64, failed bool) {
	bc := &event.Beacon{App: "a", Release: event.Release(release), Session: fmt.Sprint("s", session), Received: received, Sent: received, Arms: batch.ParseArms(arms),
		Ctx: event.Context{Platform: platform}}
	one := event.One{Kind: event.Request, Name: "GET", Time: at}
	if failed {
		one.Attrs = []event.Attr{{Key: "failed", Text: "true"}}
	}
	bc.Events = []event.One{one}
	w.beacon(b, bc, false)
}
