package ingest

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"serin.dev/serin/ingest/admit"
	"serin.dev/serin/ingest/beacon"
	"serin.dev/serin/ingest/dialect"
	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/tenant"
)

// head is what the native way needs of a request's head.
type head struct {
	key, origin string
	ctype       string // content type
	encoding    string
	baggage     string
}

// authorize checks a key and an origin before anything of the body is looked
// at. The answer to an unknown key must be readable by the page's owner,
// whoever that is.
func (e *Edge) authorize(a *answer, key, origin string) (*tenant.Grant, *refusal) {
	g, err := e.o.Tenants.Key(key)
	if err != nil {
		a.cors(origin)
		return nil, &refusal{http.StatusUnauthorized, event.ReasonKey, "key", key, "a public key of a tenant"}
	}
	if !g.AllowsOrigin(origin) {
		return g, &refusal{http.StatusForbidden, event.ReasonOrigin, "Origin", origin, "an origin on the key's list"}
	}
	a.cors(origin)
	return g, nil
}

// beacons is the native way over net/http.
func (e *Edge) beacons(w http.ResponseWriter, r *http.Request) {
	wk := e.decoders.Get().(*work)
	defer e.decoders.Put(wk)
	a := &wk.answer
	a.reset()
	defer a.writeTo(w)
	h := head{r.URL.Query().Get("key"), r.Header.Get("Origin"), r.Header.Get("Content-Type"), r.Header.Get("Content-Encoding"), r.Header.Get("Baggage")}
	g, ref := e.nativeHead(a, &h)
	if ref == nil {
		ref = wk.read(r.Body, r.ContentLength, "")
	}
	if ref != nil {
		refuse(a, name(g), ref)
		return
	}
	e.native(r.Context(), wk, g, &h, wk.body)
}

// nativeHead checks what can be checked before the body is read.
func (e *Edge) nativeHead(a *answer, h *head) (*tenant.Grant, *refusal) {
	g, ref := e.authorize(a, h.key, h.origin)
	if ref == nil {
		ref = media(h.ctype, "text/plain", "application/json")
	}
	if ref == nil {
		ref = e.crowded(a, g)
	}
	return g, ref
}

// crowded refuses a request of a tenant that sends so much beyond its quota
// that only to read it would cost the others.
func (e *Edge) crowded(a *answer, g *tenant.Grant) *refusal {
	wait := e.gate.Refuse(g)
	if wait == 0 {
		return nil
	}
	a.retry(wait)
	e.advise(a, g, event.Production)
	return &refusal{http.StatusTooManyRequests, event.ReasonQuota, "key", g.KeyID, "no more than the tenant's quota; send the same body again when Retry-After says"}
}

// name returns a tenant's name for metrics, empty where no key vouches for one.
func name(g *tenant.Grant) string {
	if g == nil {
		return ""
	}
	return g.Tenant.String()
}

// native decodes, admits and stores one native beacon, and answers when it is
// synced. body may be overwritten after it returns.
func (e *Edge) native(ctx context.Context, wk *work, g *tenant.Grant, h *head, body []byte) {
	start := time.Now()
	a := &wk.answer
	bad, ref := e.decodeNative(ctx, wk, g, h, body)
	if ref != nil {
		refuse(a, g.Tenant.String(), ref)
		return
	}
	b := &wk.beacon
	sent := len(b.Events) + len(bad)
	if h.baggage != "" {
		b.Tenancy = max(b.Tenancy, admit.Claimed(h.baggage))
	}
	whole, late := admit.Beacon(g, b, e.o.Now().UnixMilli())
	if whole != nil {
		rejected("event", g.Tenant.String(), whole.Reason, sent)
		refuse(a, g.Tenant.String(), &refusal{http.StatusForbidden, whole.Reason, whole.Field, whole.Value, whole.Want})
		return
	}
	shed := e.gate.Shed(g, b)
	accepted := len(b.Events)
	if err := e.store(ctx, g, b); err != nil {
		if ctx.Err() != nil {
			return // the client has gone, and is told nothing
		}
		rejected("event", g.Tenant.String(), event.ReasonBusy, sent)
		a.retry(2 * time.Second)
		refuse(a, g.Tenant.String(), &refusal{http.StatusServiceUnavailable, event.ReasonBusy, "journal", err.Error(), "a journal with room; send the same beacon again"})
		return
	}
	e.metrics.accepted.Add(accepted)
	e.metrics.beacons.Inc()
	for _, b := range bad {
		rejected("event", g.Tenant.String(), b.Reason, 1)
	}
	for _, b := range late {
		rejected("event", g.Tenant.String(), b.Reason, 1)
	}
	e.advise(a, g, b.Tenancy)
	a.taken(accepted, shed, rejections(sent, bad, late))
	e.metrics.ack.UpdateDuration(start)
}

// decodeNative decodes a body into wk.beacon: here, or in a taster where it is
// strange.
func (e *Edge) decodeNative(ctx context.Context, wk *work, g *tenant.Grant, h *head, body []byte) ([]beacon.Rejection, *refusal) {
	strange := false
	if e.tasters != nil {
		wk.known = familiarKey(wk.known[:0], g, body)
		strange = e.o.TasteNative || h.encoding != "" || e.familiar.strange(wk.known)
	}
	if !strange {
		plain, ref := wk.inflate(body, h.encoding)
		if ref != nil {
			return nil, ref
		}
		bad, ref, ok := wk.decode(plain)
		if ok || e.tasters == nil {
			return bad, ref
		}
		e.familiar.forget(wk.known) // and a child looks at it
	}
	q := sip{Protocol: "native", Target: "/v1/beacons", Request: dialect.Request{Body: body, Header: map[string]string{"content-encoding": h.encoding}}}
	res, ref := e.taste(ctx, g, &q)
	if ref != nil {
		return nil, ref
	}
	e.familiar.passed(wk.known)
	wk.beacon = res.Beacons[0]
	bad := make([]beacon.Rejection, len(res.Rejected))
	for i, r := range res.Rejected {
		bad[i] = beacon.Rejection{Index: r.Index, Reason: r.Reason, Field: r.Field, Value: r.Value, Want: r.Want}
	}
	return bad, nil
}

// decode decodes a body in this process. ok is false where the decoder
// panicked, which no body should make it do.
func (wk *work) decode(body []byte) (bad []beacon.Rejection, ref *refusal, ok bool) {
	defer func() {
		if r := recover(); r != nil {
			wk.dec = beacon.Decoder{} // whatever state it was left in
			bad, ref, ok = nil, &refusal{http.StatusBadRequest, event.ReasonPoison, "body", "", "a body that can be decoded"}, false
		}
	}()
	wk.beacon.Reset()
	bad, err := wk.dec.Decode(body, &wk.beacon)
	if err != nil {
		return nil, malformed(err), true
	}
	return bad, nil, true
}

// malformed turns a decoder's error into a refusal.
func malformed(err error) *refusal {
	var de *beacon.Error
	if !errors.As(err, &de) {
		de = &beacon.Error{Reason: event.ReasonJSON, Field: "body", Want: "a beacon"}
	}
	status := http.StatusBadRequest
	if de.Reason == event.ReasonSize {
		status = http.StatusRequestEntityTooLarge
	}
	return &refusal{status, de.Reason, de.Field, de.Value, de.Want}
}

// store waits until beacons are stored, and tells the gate how long it took.
func (e *Edge) store(ctx context.Context, g *tenant.Grant, beacons ...*event.Beacon) error {
	start := time.Now()
	err := e.batcher.add(ctx, g.Tenant, beacons...)
	if ctx.Err() == nil {
		e.gate.Waited(time.Since(start))
	}
	return err
}

// advise tells an SDK which classes to hold.
func (e *Edge) advise(a *answer, g *tenant.Grant, t event.Tenancy) {
	if advice := e.gate.Advice(g, t); advice != "" {
		a.set("Serin-Classes", advice)
	}
}

func (e *Edge) preflight(w http.ResponseWriter, r *http.Request) {
	a := answer{status: http.StatusNoContent}
	origin := r.Header.Get("Origin")
	g, err := e.o.Tenants.Key(r.URL.Query().Get("key"))
	if err == nil && g.AllowsOrigin(origin) {
		a.cors(origin)
		a.set("Access-Control-Allow-Methods", "POST")
		a.set("Access-Control-Allow-Headers", "Content-Type, Content-Encoding")
		a.set("Access-Control-Max-Age", "7200")
	}
	a.writeTo(w)
}

// queryKey returns the key of a query string.
func queryKey(query string) string {
	if rest, ok := strings.CutPrefix(query, "key="); ok && !strings.ContainsAny(rest, "&%+;") {
		return rest
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return ""
	}
	return values.Get("key")
}
