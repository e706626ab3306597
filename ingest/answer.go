package ingest

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"serin.dev/serin/ingest/admit"
	"serin.dev/serin/ingest/beacon"
	"serin.dev/serin/ingest/dialect"
	"serin.dev/serin/internal/event"
)

// answer is what a request is answered with, whichever front writes it. Header
// values hold nothing that a client chose but its origin.
type answer struct {
	status int
	ctype  string
	header [][2]string
	body   []byte
}

// reset empties the answer and keeps its memory.
func (a *answer) reset() {
	*a = answer{status: http.StatusServiceUnavailable, header: a.header[:0], body: a.body[:0]}
}

// retry tells the client when to send again, in whole seconds.
func (a *answer) retry(after time.Duration) {
	a.set("Retry-After", strconv.Itoa(int(math.Ceil(after.Seconds()))))
}

func (a *answer) set(name, value string) { a.header = append(a.header, [2]string{name, value}) }

// get returns a header that was set, empty where it was not.
func (a *answer) get(name string) string {
	for _, h := range a.header {
		if h[0] == name {
			return h[1]
		}
	}
	return ""
}

// json makes the answer a JSON text.
func (a *answer) json(status int, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		panic("BUG: an answer is no JSON: " + err.Error())
	}
	a.status, a.ctype = status, "application/json"
	a.body = append(append(a.body[:0], text...), '\n')
}

// cors lets the page read the answer. sendBeacon sends credentials, so the
// origin must be named; we set no cookies and read none.
func (a *answer) cors(origin string) {
	a.set("Vary", "Origin")
	if origin != "" {
		a.set("Access-Control-Allow-Origin", origin)
		a.set("Access-Control-Allow-Credentials", "true")
		a.set("Access-Control-Expose-Headers", "Retry-After, Serin-Classes, X-Sentry-Error, X-Sentry-Rate-Limits")
	}
}

// writeTo writes the answer to net/http.
func (a *answer) writeTo(w http.ResponseWriter) {
	h := w.Header()
	for _, one := range a.header {
		h.Add(one[0], one[1])
	}
	if a.ctype != "" {
		h.Set("Content-Type", a.ctype)
	}
	if a.status != http.StatusNoContent {
		h.Set("Content-Length", strconv.Itoa(len(a.body)))
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // the status is out: a client that has gone is nobody's fault and nobody's news
}

// refusal is why a request is refused as a whole.
type refusal struct {
	status int
	reason event.Reason
	field  string
	value  string
	want   string
}

// malformed reports whether it is the body's own fault.
func (f *refusal) malformed() bool {
	return f.status == http.StatusBadRequest || f.status == http.StatusRequestEntityTooLarge
}

// maxShown is how many bytes of a value an answer repeats.
const maxShown = 64

func shortened(value string) string { return dialect.Clip(value, maxShown) }

// put makes a refusal the answer.
func (f *refusal) put(a *answer) {
	type body struct {
		Reason  event.Reason `json:"reason"`
		Field   string       `json:"field"`
		Value   string       `json:"value"`
		Want    string       `json:"want"`
		Message string       `json:"message"`
	}
	value := shortened(f.value)
	a.json(f.status, map[string]body{"error": {f.reason, f.field, value, f.want, fmt.Sprintf("%s: %q: want %s", f.field, value, f.want)}})
}

// refuse counts a refusal and makes it the answer.
func refuse(a *answer, tenantName string, f *refusal) {
	rejected("beacon", tenantName, f.reason, 1)
	f.put(a)
}

// rejection is one rejected event in an answer.
type rejection struct {
	Index  int          `json:"index"`
	Reason event.Reason `json:"reason"`
	Field  string       `json:"field"`
	Value  string       `json:"value"`
	Want   string       `json:"want"`
}

// taken answers how many events were stored, how many were shed, and for each
// other one why not.
func (a *answer) taken(accepted, shed int, all []rejection) {
	if len(all) == 0 && shed == 0 {
		a.status, a.ctype = http.StatusAccepted, "application/json"
		a.body = append(a.body[:0], `{"accepted":`...)
		a.body = strconv.AppendInt(a.body, int64(accepted), 10)
		a.body = append(a.body, `,"rejected":[]}`...)
		return
	}
	if all == nil {
		all = []rejection{}
	}
	a.json(http.StatusAccepted, struct {
		Accepted int         `json:"accepted"`
		Rejected []rejection `json:"rejected"`
		Shed     int         `json:"shed,omitempty"`
	}{accepted, all, shed})
}

// rejections joins what the decoder and what admit left out of sent events.
// Both lists name events by their place in the client's array: admit counts
// only those that the decoder let through, so its places are moved past the
// ones that the decoder had rejected.
func rejections(sent int, bad []beacon.Rejection, late []admit.Rejection) []rejection {
	if len(bad)+len(late) == 0 {
		return nil
	}
	var all []rejection
	isBad := make([]bool, sent)
	for _, b := range bad {
		all = append(all, rejection{b.Index, b.Reason, b.Field, b.Value, b.Want})
		isBad[b.Index] = true
	}
	var places []int
	for i, b := range isBad {
		if !b {
			places = append(places, i)
		}
	}
	for _, l := range late {
		i := places[l.Index]
		all = append(all, rejection{i, l.Reason, fmt.Sprintf("events[%d].t", i), l.Value, l.Want})
	}
	return all
}
