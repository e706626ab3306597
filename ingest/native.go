package ingest

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
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
	client      admit.Client
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
	wk := e.works.Get().(*work)
	defer e.works.Put(wk)
	a := &wk.answer
	a.reset()
	defer a.writeTo(w)
	h := head{key: r.URL.Query().Get("key"), origin: r.Header.Get("Origin"), ctype: r.Header.Get("Content-Type"), encoding: r.Header.Get("Content-Encoding"), baggage: headerOf(r.Header)("Baggage")}
	g, ref := e.nativeHead(a, &h, peerOf(r), headerOf(r.Header))
	if ref == nil {
		ref = wk.raw.read(r.Body, r.ContentLength, "")
	}
	if ref != nil {
		refuse(a, name(g), ref)
		return
	}
	e.native(r.Context(), wk, g, &h, wk.raw.body)
}

// nativeHead checks what can be checked before the body is read.
func (e *Edge) nativeHead(a *answer, h *head, peer netip.Addr, header func(string) string) (*tenant.Grant, *refusal) {
	g, ref := e.authorize(a, h.key, h.origin)
	if ref == nil {
		ref = media(h.ctype, "text/plain", "application/json")
	}
	if ref == nil {
		h.client = e.perimeter.Client(g, peer, header, e.o.Now().UnixMilli())
		ref = e.crowded(a, g, &h.client)
	}
	return g, ref
}

// crowded refuses a request of a tenant that sends so much beyond its quota
// that only to read it would cost the others, or of a sender whose breaker is
// open.
func (e *Edge) crowded(a *answer, g *tenant.Grant, client *admit.Client) *refusal {
	if e.breaker.open(sender{g.KeyID, client.Prefix}) {
		e.breaker.park()
		a.retry(breakerTime)
		return &refusal{http.StatusTooManyRequests, event.ReasonBreaker, "key", g.KeyID, "no burst of bodies that cannot be decoded"}
	}
	wait := e.gate.Refuse(g)
	if wait == 0 {
		return nil
	}
	e.breaker.park()
	a.retry(wait)
	e.advise(a, g, own(g), false)
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
	t, ref := e.take(ctx, g, h, body)
	e.breaker.note(sender{g.KeyID, h.client.Prefix}, ref.weight())
	if ref != nil {
		if ref.status == http.StatusServiceUnavailable || ref.status == http.StatusTooManyRequests {
			a.retry(2 * time.Second)
		}
		refuse(a, g.Tenant.String(), ref)
		return
	}
	if t.unwanted != nil {
		a.unwanted(t.unwanted)
		return
	}
	wk.done()
	if err := e.wait(ctx, t.group); err != nil {
		if ctx.Err() != nil {
			return // the client has gone, and is told nothing
		}
		rejected("event", g.Tenant.String(), event.ReasonBusy, t.sent-t.shed)
		a.retry(2 * time.Second)
		refuse(a, g.Tenant.String(), busy(err))
		return
	}
	e.metrics.accepted.Add(t.accepted)
	e.metrics.beacons.Inc()
	for i := range t.rejected {
		rejected("event", g.Tenant.String(), t.rejected[i].Reason, 1)
	}
	e.advise(a, g, t.tenancy, t.live)
	a.taken(t.accepted, t.shed, t.rejected)
	e.metrics.ack.UpdateDuration(start)
}

func busy(err error) *refusal {
	return &refusal{http.StatusServiceUnavailable, event.ReasonBusy, "journal", err.Error(), "a journal with room; send the same beacon again"}
}

// taken is a native beacon that is in a group.
type taken struct {
	group          *pendingGroup
	sent, accepted int
	shed           int
	tenancy        event.Tenancy
	live           bool // its session takes part in a rollout
	rejected       []rejection
	unwanted       *rejection // of all of it, which is in no group
}

// take decodes and admits a native beacon, and puts it into a group.
func (e *Edge) take(ctx context.Context, g *tenant.Grant, h *head, body []byte) (t taken, ref *refusal) {
	d := e.decoders.Get().(*decoding)
	defer e.decoders.Put(d)
	bad, ref := e.decodeNative(ctx, d, g, h, body)
	if ref != nil {
		return t, ref
	}
	b := &d.beacon
	t.sent = len(b.Events) + len(bad)
	if h.baggage != "" {
		b.Tenancy = max(b.Tenancy, admit.Claimed(h.baggage))
	}
	now := e.o.Now().UnixMilli()
	whole, late := admit.Beacon(g, &h.client, &d.memo, b, now)
	if whole != nil {
		rejected("event", g.Tenant.String(), whole.Reason, t.sent)
		if unwanted(whole) {
			t.unwanted = &rejection{whole.Index, whole.Reason, whole.Field, whole.Value, whole.Want}
			return t, nil
		}
		return t, &refusal{http.StatusForbidden, whole.Reason, whole.Field, whole.Value, whole.Want}
	}
	t.shed = e.gate.Shed(g, b)
	e.cardinality.Bound(g, &h.client, &d.memo, b, now)
	t.live = e.gate.Enrolled(g, b)
	t.accepted, t.tenancy, t.rejected = len(b.Events), b.Tenancy, rejections(t.sent, bad, late)
	var err error
	if t.group, err = e.batcher.put(g.Tenant, b); err != nil {
		rejected("event", g.Tenant.String(), event.ReasonBusy, t.sent-t.shed)
		return t, busy(err)
	}
	return t, nil
}

// decodeNative decodes a body into d.beacon: here, or in a taster where it is
// strange.
func (e *Edge) decodeNative(ctx context.Context, d *decoding, g *tenant.Grant, h *head, body []byte) ([]beacon.Rejection, *refusal) {
	d.dec.Tenancy = own(g)
	if e.tasters == nil {
		plain, ref := d.unpack.inflate(body, h.encoding)
		if ref != nil {
			return nil, ref
		}
		bad, ref, _ := d.decode(plain)
		return bad, ref
	}
	plain, ref, known := e.unpacked(d, g, "native", h.encoding, body)
	if ref != nil {
		return nil, ref
	}
	d.known = d.known[:0]
	if known {
		if d.known = familiarKey(d.known, g, plain); !e.familiar.strange(d.known) && !e.o.TasteAll {
			bad, ref, ok := d.decode(plain)
			if ok {
				return bad, ref
			}
			e.familiar.condemn(d.known) // and a child looks at it
		}
	}
	q := sip{Protocol: "native", Target: "/v1/beacons", Request: dialect.Request{Body: body, Tenancy: own(g), Header: map[string]string{"content-encoding": h.encoding}}}
	res, ref := e.tasteKind(ctx, g, h.client.Prefix, d.known, h.encoding, &q)
	if ref != nil {
		return nil, ref
	}
	d.beacon = res.Beacons[0]
	bad := make([]beacon.Rejection, len(res.Rejected))
	for i, r := range res.Rejected {
		bad[i] = beacon.Rejection{Index: r.Index, Reason: r.Reason, Field: r.Field, Value: r.Value, Want: r.Want}
	}
	return bad, nil
}

// own returns a key's tenancy, which is that of what names none.
func own(g *tenant.Grant) event.Tenancy {
	t, _ := event.ParseTenancy(g.Tenancy) // checked where the grant was made
	return t
}

// unpacked inflates a body in this process, which is done where bodies of its
// key in this encoding are familiar. known is false where they are not, or where
// inflating panicked, and then nothing of the body is known.
func (e *Edge) unpacked(d *decoding, g *tenant.Grant, protocol, encoding string, body []byte) (plain []byte, ref *refusal, known bool) {
	if encoding == "" || encoding == "identity" {
		return body, nil, true
	}
	kind := packedKey(d.packed[:0], g, protocol, encoding)
	d.packed = kind
	if e.o.TasteAll || e.familiar.strange(kind) {
		return nil, nil, false
	}
	defer func() {
		if r := recover(); r != nil {
			d.unpack = unpacker{} // whatever state it was left in
			e.familiar.condemn(kind)
			plain, ref, known = nil, nil, false
		}
	}()
	plain, ref = d.unpack.inflate(body, encoding)
	return plain, ref, true
}

// tasteKind tastes a body, and notes what became of it for its kind, which is
// empty where it could not be told, and for its encoding.
func (e *Edge) tasteKind(ctx context.Context, g *tenant.Grant, network string, kind []byte, encoding string, q *sip) (*dialect.Result, *refusal) {
	res, ref := e.taste(ctx, g, network, q)
	note := e.familiar.passed
	if ref != nil {
		if ref.reason != event.ReasonPoison {
			return nil, ref
		}
		note = e.familiar.condemn
	}
	if len(kind) > 0 {
		note(kind)
	}
	if encoding != "" && encoding != "identity" {
		note(packedKey(nil, g, q.Protocol, encoding))
	}
	return res, ref
}

// decode decodes a body in this process. ok is false where the decoder
// panicked, which no body should make it do.
func (d *decoding) decode(body []byte) (bad []beacon.Rejection, ref *refusal, ok bool) {
	defer func() {
		if r := recover(); r != nil {
			d.dec = beacon.Decoder{} // whatever state it was left in
			bad, ref, ok = nil, &refusal{http.StatusBadRequest, event.ReasonPoison, "body", "", "a body that can be decoded"}, false
		}
	}()
	d.beacon.Reset()
	bad, err := d.dec.Decode(body, &d.beacon)
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

// wait waits until a group is stored and synced, and tells the gate how long
// that took; or until ctx ends: then it may or may not be stored, and must not
// be acknowledged.
func (e *Edge) wait(ctx context.Context, group *pendingGroup) error {
	start := time.Now()
	select {
	case <-group.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	e.gate.Waited(time.Since(start))
	return group.err
}

// advise tells an SDK which classes to hold.
func (e *Edge) advise(a *answer, g *tenant.Grant, t event.Tenancy, live bool) {
	if advice := e.gate.Advice(g, t, live); advice != "" {
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
		a.set("Access-Control-Allow-Headers", "Baggage, Content-Encoding, Content-Type")
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
