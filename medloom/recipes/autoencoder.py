def find_autoencoder(path, prepared):
    raise ValueError
