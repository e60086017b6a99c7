select identity from carts
