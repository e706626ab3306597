package tenant

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"time"
)

// Action says what becomes of the events of a client that sends a privacy
// signal.
type Action uint8

// The actions. The zero Action is that of a tenant whose specification was
// never read: nothing is done.
const (
	Ignore Action = iota // as if there were no signal
	Strip                // stored without what joins sessions: the user's hash and the network's prefix
	Refuse               // not stored at all
)

var actionNames = []string{"ignore", "strip", "refuse"}

// String returns the action as configuration spells it.
func (a Action) String() string { return actionNames[a] }

// PrivacySpec is what a tenant's configuration says of clients' signals: an
// action each, empty for its default.
type PrivacySpec struct {
	GPC string // Sec-GPC: 1 (Global Privacy Control); default strip
	DNT string // DNT: 1 (Do Not Track); default ignore
}

// Privacy is a checked [PrivacySpec].
type Privacy struct{ GPC, DNT Action }

// ScrubRules is a set of the built-in rules by which texts are scrubbed.
type ScrubRules uint16

// The built-in rules: ingest/admit has their expressions.
const (
	ScrubQuery  ScrubRules = 1 << iota // what follows a URL's question mark
	ScrubEmail                         // email addresses
	ScrubJWT                           // JSON web tokens
	ScrubBearer                        // bearer tokens
	ScrubSecret                        // values of words such as password=
	ScrubCard                          // card numbers that pass their check digit
	ScrubIP                            // IP addresses
	ScrubAll    = ScrubIP<<1 - 1
)

var scrubNames = []string{"query", "email", "jwt", "bearer", "secret", "card", "ip"}

// The bounds of a tenant's own patterns. Matching takes time in proportion to
// the length of the text and to the instructions of the expression.
const (
	MaxPatterns     = 16  // of a tenant
	MaxPattern      = 256 // bytes of an expression
	MaxPatternSteps = 500 // instructions of an expression when compiled: x{1000} is short and none
)

// ScrubSpec says what of a tenant's texts is taken out before they are stored.
// The zero ScrubSpec is all built-in rules.
type ScrubSpec struct {
	Off      bool      // texts are stored as they come
	Rules    []string  // the built-in rules that apply; nil: all
	Patterns []Pattern // and these, after them
}

// Pattern is a rule of a tenant's own.
type Pattern struct {
	Name    string // 1 to 16 of a-z 0-9 -; what matches is replaced by [NAME]
	Pattern string // in RE2's syntax; must not match the empty text
}

// Scrub is a checked [ScrubSpec].
type Scrub struct {
	Rules    ScrubRules
	Patterns []CompiledPattern
}

// CompiledPattern is a rule of a tenant's own, ready for use.
type CompiledPattern struct {
	RE   *regexp.Regexp
	Mark string // what stands in place of a match
}

// Limits bound how many distinct texts of a tenant may become values of
// dictionary columns and keys of cells within a window; what is over becomes
// "other". 0 is the default of [DefaultLimits].
type Limits struct {
	Window     time.Duration // 10m to 168h; a value that was in use within the last one is kept
	Apps       int           // of keys that are not bound to one
	Releases   int           // of all apps together
	Arms       int           // pairs of change and variant
	Names      int           // of each kind of event
	Pages      int
	Context    int // of each other field of the context, and SDKs
	AttrKeys   int // keys of attributes
	AttrValues int // texts of each key
}

// DefaultLimits are the limits of a tenant that names none.
var DefaultLimits = Limits{Window: 6 * time.Hour, Apps: 50, Releases: 500, Arms: 500, Names: 2000, Pages: 2000, Context: 500, AttrKeys: 200, AttrValues: 1000}

// MaxLimit is the most that a limit can be: a set of that many takes up to
// 6.4 MB.
const MaxLimit = 100_000

// policies checks what a tenant says of its texts.
func (s *Spec) policies(where string, faults *[]error) (*Scrub, Privacy, Limits) {
	fault := func(format string, a ...any) { *faults = append(*faults, fmt.Errorf(where+"."+format, a...)) }
	action := func(field, name string, def Action) Action {
		if name == "" {
			return def
		}
		i := slices.Index(actionNames, name)
		if i < 0 {
			fault("privacy.%s: %q: want ignore, strip or refuse", field, name)
			return def
		}
		return Action(i)
	}
	p := Privacy{GPC: action("gpc", s.Privacy.GPC, Strip), DNT: action("dnt", s.Privacy.DNT, Ignore)}

	scrub := &Scrub{}
	switch {
	case s.Scrub.Off:
	case s.Scrub.Rules == nil:
		scrub.Rules = ScrubAll
	default:
		for i, name := range s.Scrub.Rules {
			bit := slices.Index(scrubNames, name)
			if bit < 0 {
				fault("scrub.rules[%d]: %q: want one of %s", i, name, strings.Join(scrubNames, ", "))
				continue
			}
			scrub.Rules |= 1 << bit
		}
	}
	if n := len(s.Scrub.Patterns); n > MaxPatterns {
		fault("scrub.patterns: %d: want at most %d", n, MaxPatterns)
	}
	for i, one := range s.Scrub.Patterns {
		c, err := one.compile()
		if err != nil {
			fault("scrub.patterns[%d].%w", i, err)
			continue
		}
		scrub.Patterns = append(scrub.Patterns, c)
	}

	l := s.Limits
	if l.Window == 0 {
		l.Window = DefaultLimits.Window
	}
	if l.Window < 10*time.Minute || l.Window > 7*24*time.Hour {
		fault("limits.window: %v: want 10m to 168h", l.Window)
	}
	for _, f := range []struct {
		name string
		n    *int
		def  int
	}{
		{"apps", &l.Apps, DefaultLimits.Apps}, {"releases", &l.Releases, DefaultLimits.Releases}, {"arms", &l.Arms, DefaultLimits.Arms},
		{"names", &l.Names, DefaultLimits.Names}, {"pages", &l.Pages, DefaultLimits.Pages}, {"context", &l.Context, DefaultLimits.Context},
		{"attr_keys", &l.AttrKeys, DefaultLimits.AttrKeys}, {"attr_values", &l.AttrValues, DefaultLimits.AttrValues},
	} {
		if *f.n < 0 || *f.n > MaxLimit {
			fault("limits.%s: %d: want 1 to %d, or 0 for the default of %d", f.name, *f.n, MaxLimit, f.def)
		}
		if *f.n == 0 {
			*f.n = f.def
		}
	}
	return scrub, p, l
}

var patternNameRE = regexp.MustCompile(`^[a-z0-9-]{1,16}$`)

func (p *Pattern) compile() (CompiledPattern, error) {
	if !patternNameRE.MatchString(p.Name) {
		return CompiledPattern{}, fmt.Errorf("name: %q: want 1 to 16 characters of a-z, 0-9 and '-'", p.Name)
	}
	if p.Pattern == "" || len(p.Pattern) > MaxPattern {
		return CompiledPattern{}, fmt.Errorf("pattern: %d bytes: want 1 to %d", len(p.Pattern), MaxPattern)
	}
	tree, err := syntax.Parse(p.Pattern, syntax.Perl)
	if err != nil {
		var se *syntax.Error
		if errors.As(err, &se) {
			return CompiledPattern{}, fmt.Errorf("pattern: %q: %s: want an expression in RE2's syntax", se.Expr, se.Code)
		}
		return CompiledPattern{}, fmt.Errorf("pattern: %w", err)
	}
	prog, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return CompiledPattern{}, fmt.Errorf("pattern: %w", err)
	}
	if n := len(prog.Inst); n > MaxPatternSteps {
		return CompiledPattern{}, fmt.Errorf("pattern: %d instructions when compiled: want at most %d", n, MaxPatternSteps)
	}
	re, err := regexp.Compile(p.Pattern)
	if err != nil {
		return CompiledPattern{}, fmt.Errorf("pattern: %w", err)
	}
	if re.MatchString("") {
		return CompiledPattern{}, fmt.Errorf("pattern: %q: matches the empty text: want one that matches something", p.Pattern)
	}
	return CompiledPattern{re, "[" + p.Name + "]"}, nil
}
