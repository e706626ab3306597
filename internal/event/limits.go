package event

// The limits of a beacon. They are told to SDK builders in
// docs/formats/beacon.md; a decoder enforces them before it allocates.
const (
	MaxBody      = 1 << 20  // bytes of a body on the wire and inflated; an SDK keeps to MaxSDKBody
	MaxSDKBody   = 64 << 10 // bytes that sendBeacon carries
	MaxRatio     = 100      // inflated bytes per wire byte, checked above 64 KiB inflated
	MaxDepth     = 8        // nesting of JSON values
	MaxEvents    = 200      // events in a beacon
	MaxArms      = 16       // changes that a session takes part in
	MaxAttrs     = 32       // attributes of an event
	MaxDrops     = 64       // causes in drops
	MaxName      = 128      // bytes of names, apps, releases, changes, variants and keys
	MaxText      = 256      // bytes of an attribute's text and of a context field
	MaxMessage   = 1024     // bytes of a message
	MaxStack     = 8192     // bytes of a stack
	MaxUnit      = 16       // bytes of a unit
	MinSession   = 8        // characters of a session id
	MaxSession   = 64       // characters of a session id and of a user hash
	MaxFutureMS  = 60_000   // how far an event's corrected time may lie ahead of its receipt
	MaxAgeMS     = 7 * 24 * 3600_000
	MaxMagnitude = 1e15 // absolute value of a number
)

// Reason says why an event or a beacon was not admitted. The texts cross the
// wire and are metric labels: the list is closed, append only.
type Reason string

// The reasons.
const (
	ReasonJSON     Reason = "json"          // not JSON, or not UTF-8
	ReasonDepth    Reason = "depth"         // nested deeper than MaxDepth
	ReasonType     Reason = "type"          // a field of the wrong type
	ReasonMissing  Reason = "missing"       // a required field is absent
	ReasonRange    Reason = "range"         // a number outside its range
	ReasonLength   Reason = "length"        // a text too long or empty
	ReasonCount    Reason = "count"         // too many of something
	ReasonKind     Reason = "kind"          // unknown kind
	ReasonName     Reason = "name"          // unknown name, such as a vital that is none
	ReasonVersion  Reason = "version"       // a version of the beacon that is not known
	ReasonClock    Reason = "clock"         // a time that cannot be
	ReasonDupKey   Reason = "duplicate_key" // a JSON key is there twice
	ReasonSize     Reason = "size"          // the body is too large, on the wire or inflated
	ReasonEncoding Reason = "encoding"      // a content encoding that is not known or is broken
	ReasonKey      Reason = "key"           // unknown key
	ReasonOrigin   Reason = "origin"        // the origin is not on the key's list
	ReasonApp      Reason = "app"           // the key is not for this app
	ReasonTenancy  Reason = "tenancy"       // the key may not claim this tenancy
	ReasonBusy     Reason = "busy"          // the journal is short of room or time
	ReasonPoison   Reason = "poison"        // decoding the body killed what decoded it
	ReasonJail     Reason = "quarantine"    // bodies of this form did so before
	ReasonBreaker  Reason = "breaker"       // too many of those from this network with this key
	ReasonQuota    Reason = "quota"         // the tenant is so far past its quota that the body was not read
	ReasonPrivacy  Reason = "privacy"       // the client asks not to be observed, and its tenant heeds that
)
