package netops

// What tests look into, with fixtures that import this package.
var (
	PlaceOf  = placeOf
	Simulate = simulate
)

// NewArrangement has routes as they are, and as they are to be.
func NewArrangement(have, target []*Route) Arrangement {
	return Arrangement{have: have, target: target}
}
